// The scenario that every client plays, see scenario.py.

export const target = JSON.parse(process.argv[2]);

export async function runScenario(call, request) {
  let answer = await call("midjourney_upscale", request);
  while (answer.status !== "completed") {
    answer = await call("get_task", { task_id: answer.task_id });
  }
  return answer.result_urls[0];
}

export function report(protocol, result) {
  console.log(JSON.stringify({ protocol, result }));
}

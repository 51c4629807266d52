// The way that every client goes, see way.py.

export const target = JSON.parse(process.argv[2]);

export async function go(call, order) {
  let answer = await call("midjourney_upscale", order);
  while (answer.status !== "completed") {
    answer = await call("get_task", { task_id: answer.task_id });
  }
  return answer.result_urls[0];
}

export function report(protocol, result) {
  console.log(JSON.stringify({ protocol, result }));
}

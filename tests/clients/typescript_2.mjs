// @modelcontextprotocol/client 2: the TypeScript SDK of both eras.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { runScenario, report, target } from "./scenario.mjs";

function connect() {
  if (target.transport === "stdio") return new StdioClientTransport(target);
  const Transport = target.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return new Transport(new URL(target.url));
}

const options = target.era === "auto" ? { versionNegotiation: { mode: "auto" } } : {};
const client = new Client({ name: "typescript-2", version: "1.0.0" }, options);
await client.connect(connect());
const result = await runScenario(
  async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent,
  target.request,
);
report(client.getNegotiatedProtocolVersion() ?? "?", result);
await client.close();

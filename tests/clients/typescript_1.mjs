// @modelcontextprotocol/sdk 1: the TypeScript SDK that most clients are built on.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { runScenario, report, target } from "./scenario.mjs";

function connect() {
  if (target.transport === "stdio") return new StdioClientTransport(target);
  const Transport = target.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return new Transport(new URL(target.url));
}

const transport = connect();
let protocol = "?";
// The client passes the agreed version to the transport, which sends it with each request.
const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  protocol = version;
  setProtocolVersion?.(version);
};
const client = new Client({ name: "typescript-1", version: "1.0.0" });
await client.connect(transport);
const result = await runScenario(
  async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent,
  target.request,
);
report(protocol, result);
await client.close();

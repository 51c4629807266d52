// @modelcontextprotocol/sdk 1: the TypeScript SDK that most clients are built on.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { go, report, target } from "./way.mjs";

function connect() {
  if (target.transport === "stdio") return new StdioClientTransport(target);
  const Transport = target.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return new Transport(new URL(target.url));
}

const transport = connect();
let protocol = "?";
// The version that was agreed on is told to the transport, for it to send along.
const told = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  protocol = version;
  told?.(version);
};
const client = new Client({ name: "typescript-1", version: "1.0.0" });
await client.connect(transport);
const result = await go(
  async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent,
  target.order,
);
report(protocol, result);
await client.close();

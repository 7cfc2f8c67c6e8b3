/** An MCP server for tests: says what its variable SECRET is, and adds. */

import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "tiny", version: "1" });
server.registerTool("add", { inputSchema: { a: z.number(), b: z.number() } }, ({ a, b }) => ({
  content: [{ type: "text", text: `${a + b} by ${process.env.SECRET?.length ?? 0}` }],
}));
server.registerTool("wipe", { inputSchema: {} }, () => ({ content: [{ type: "text", text: "wiped" }] }));
await server.connect(new StdioServerTransport());

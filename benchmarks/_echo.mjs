/**
 * The other side of `bridge.py`'s comparisons: answers each JSON document with the same, decoded and encoded again.
 *
 *     node _echo.mjs FOLDER once      one document, from stdin to stdout
 *     node _echo.mjs FOLDER lines     a document a line, over the pipes
 *     node _echo.mjs FOLDER serve     WebSocket and HTTP on 127.0.0.1, until stdin ends; prints the port
 *     node _echo.mjs FOLDER codec N   milliseconds to encode and to decode each of the documents in stdin's lines
 *     node _echo.mjs FOLDER turns     a turn of the bare TypeScript SDK for each line of stdin, options on the first
 *
 * FOLDER is an installed bridge, whose dependencies are used.
 */

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const [folder, way, count] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));

const again = (document) => JSON.stringify(JSON.parse(document));

async function once() {
  process.stdout.write(again(await text(process.stdin)));
}

async function lines() {
  for await (const line of createInterface({ input: process.stdin })) process.stdout.write(`${again(line)}\n`);
}

function serve() {
  const { WebSocketServer } = require("ws");
  const server = createServer(async (request, response) => response.end(again(await text(request))));
  const sockets = new WebSocketServer({ server, maxPayload: 64 * 1024 * 1024, perMessageDeflate: false });
  sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(again(data.toString()))));
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
  process.stdin.resume().on("end", () => process.exit(0));
}

async function codec() {
  for await (const line of createInterface({ input: process.stdin })) {
    const value = JSON.parse(line);
    const measured = { encode: [], decode: [] };
    for (let round = -3; round < Number(count); round += 1) {
      const began = performance.now();
      const document = JSON.stringify(value);
      const encoded = performance.now();
      JSON.parse(document);
      const decoded = performance.now();
      if (round >= 0) {
        measured.encode.push(encoded - began);
        measured.decode.push(decoded - encoded);
      }
    }
    console.log(JSON.stringify(measured));
  }
}

async function turns() {
  const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const { question, ...options } = JSON.parse((await input.next()).value);
  const { query } = await import(pathToFileURL(require.resolve("@anthropic-ai/claude-agent-sdk")).href);
  async function* questions() {
    for await (const _ of input) {
      yield { type: "user", message: { role: "user", content: question }, parent_tool_use_id: null, session_id: "" };
    }
  }
  for await (const message of query({ prompt: questions(), options })) {
    if (message.type === "result") console.log(JSON.stringify({ subtype: message.subtype }));
  }
}

await { once, lines, serve, codec, turns }[way]();

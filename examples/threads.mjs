/**
 * Conversations from Node, over the daemon's REST interface; nothing has to be installed.
 *
 *     node examples/threads.mjs list
 *     node examples/threads.mjs search "page blocks"
 *     node examples/threads.mjs show THREAD
 *     node examples/threads.mjs continue THREAD "And how do I index them?"
 *
 * A daemon must run: claude-comms daemon start. It is reached by `daemon.sock` in CLAUDE_COMMS_HOME; where that path is
 * too long for a socket, set CLAUDE_COMMS_SOCKET to what `claude-comms daemon status` names.
 */

import { once } from "node:events";
import { request } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { stripVTControlCharacters } from "node:util";

const home = process.env.CLAUDE_COMMS_HOME || join(homedir(), ".claude-comms");
const socketPath = process.env.CLAUDE_COMMS_SOCKET || join(home, "daemon.sock");

/** Send a request; the response, not read yet. An answer that is no 2xx is thrown, as the daemon words it. */
async function call(method, path, { body, accept = "application/json" } = {}) {
  const headers = { Accept: accept, ...(body && { "Content-Type": "application/json" }) };
  const sent = request({ socketPath, method, path, headers });
  sent.end(body && JSON.stringify(body));
  const [response] = await once(sent, "response");
  if (response.statusCode >= 300) throw new Error((await json(response)).detail);
  return response;
}

async function json(response) {
  const pieces = await response.toArray();
  return JSON.parse(Buffer.concat(pieces).toString("utf8"));
}

/** The server-sent events of a response: `{ type, data }`, data parsed. */
async function* eventsOf(response) {
  let type = "";
  let data = [];
  for await (const line of createInterface({ input: response, crlfDelay: Infinity })) {
    if (line.startsWith("event:")) type = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    else if (line === "" && data.length > 0) {
      yield { type, data: JSON.parse(data.join("\n")) };
      [type, data] = ["", []];
    }
  }
}

/** Text that others wrote may hold terminal commands: they are left out. */
function plain(text) {
  return stripVTControlCharacters(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
}

async function list() {
  for (const thread of await json(await call("GET", "/v1/conversations"))) {
    const { thread_id, source, target, backend, message_count, title } = thread;
    console.log(`${thread_id}  ${source} → ${target}  ${backend ?? "-"}  ${message_count} messages  ${plain(title)}`);
  }
}

async function search(text) {
  const found = await json(await call("GET", `/v1/conversations/search?text=${encodeURIComponent(text)}`));
  for (const hit of found) console.log(`${hit.thread_id}  ${hit.speaker}: ${plain(hit.excerpt)}`);
}

async function show(id) {
  const thread = await json(await call("GET", `/v1/conversations/${encodeURIComponent(id)}`));
  for (const message of thread.messages) console.log(`${message.speaker}: ${plain(message.text)}\n`);
}

async function proceed(id, prompt) {
  const { thread_id, source, target } = await json(await call("GET", `/v1/conversations/${encodeURIComponent(id)}`));
  const response = await call("POST", "/v1/messages", {
    body: { source, target, thread_id, prompt },
    accept: "text/event-stream",
  });
  for await (const { type, data: event } of eventsOf(response)) {
    if (type === "turn.delta") process.stdout.write(plain(event.data.text));
    if (type === "turn.completed") console.log();
    if (type === "turn.failed" || type === "turn.interrupted") throw new Error(event.data.error.message);
  }
}

const commands = { list, search, show, continue: proceed };

const [name, ...given] = process.argv.slice(2);
const command = commands[name];
if (command === undefined || given.length !== command.length) {
  console.error("usage: node threads.mjs list | search TEXT | show THREAD | continue THREAD PROMPT");
  process.exit(2);
}
try {
  await command(...given);
} catch (error) {
  const hint = error.code === "ENOENT" || error.code === "ECONNREFUSED" ? ". Start it: claude-comms daemon start" : "";
  console.error(`error: ${error.message}${hint}`);
  process.exitCode = 1;
}

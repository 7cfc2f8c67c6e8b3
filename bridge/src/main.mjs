/** The command line. */

import { parseArgs } from "node:util";

import { VERSION } from "./versions.mjs";

const USAGE = `claude-comms-bridge ${VERSION}: persistent Claude Code sessions

  claude-comms-bridge serve --token-file FILE [--port N] [--launcher JSON]
      JSON-RPC 2.0 over WebSocket on 127.0.0.1. FILE, of mode 0600, holds the bearer token. The address is told on
      stdout as one line of JSON. Ends with its standard input, and on SIGTERM.
  claude-comms-bridge mcp [--tools NAME,NAME...] [--binary PATH] [--launcher JSON]
      An MCP server on stdio. --tools are those of Claude Code that sessions may be given: Read, Grep and Glob
      unless it says otherwise.
  claude-comms-bridge --version

  --launcher  a JSON array: the program, with arguments, under which each Claude Code process is started
`;

const END_MS = 3_000;

/**
 * Run the command. Ends the process with code 2 where the command line is wrong, with 1 where the bridge is not whole.
 * @param {string[]} words
 */
export async function main(words) {
  const [command, ...rest] = words;
  try {
    if (command === "--version") process.stdout.write(`${VERSION}\n`);
    else if (command === "--help" || command === "-h") process.stdout.write(USAGE);
    else if (command === "serve") await serve(rest);
    else if (command === "mcp") await mcp(rest);
    else refuse(command === undefined ? "a command is needed" : `there is no command ${command}`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (isIncomplete(error)) fail(`${message}. Install the bridge anew.`);
    else refuse(message);
  }
}

/**
 * Whether a file or a package of the bridge is missing: that is not the command line's fault.
 * @param {unknown} error
 */
function isIncomplete(error) {
  return error instanceof Error && "code" in error && /MODULE_NOT_FOUND$/.test(String(error.code));
}

/** @param {string} problem */
function fail(problem) {
  process.stderr.write(`claude-comms-bridge: ${problem}\n`);
  process.exitCode = 1;
}

/** @param {string} problem */
function refuse(problem) {
  process.stderr.write(`claude-comms-bridge: ${problem}\n\n${USAGE}`);
  process.exitCode = 2;
}

/** @param {string[]} words */
async function serve(words) {
  const { values } = parseArgs({
    args: words,
    options: { "token-file": { type: "string" }, port: { type: "string", default: "0" }, launcher: { type: "string" } },
  });
  if (values["token-file"] === undefined) throw new Error("serve needs --token-file FILE");
  const [{ readToken }, { BridgeServer }] = await Promise.all([import("./token.mjs"), import("./server.mjs")]);
  const server = new BridgeServer({ token: readToken(values["token-file"]), launcher: launcherOf(values.launcher) });
  await server.listen(portOf(values.port));
  endWithOwner(() => server.close(), () => server.sessions.abandonAll());
  process.stdout.write(`${server.announcement}\n`);
}

/** @param {string[]} words */
async function mcp(words) {
  const { values } = parseArgs({
    args: words,
    options: { tools: { type: "string" }, binary: { type: "string" }, launcher: { type: "string" } },
  });
  const { serveMcp } = await import("./mcp.mjs");
  const tools = values.tools?.split(",").filter((tool) => tool !== "");
  const server = await serveMcp({ tools, binary: values.binary, launcher: launcherOf(values.launcher) });
  endWithOwner(() => server.close(), () => server.sessions.abandonAll());
}

/**
 * End this process when its standard input ends, or on a signal; within 3 s, whatever `close` does.
 * @param {() => Promise<void>} close
 * @param {() => void} abandon
 */
function endWithOwner(close, abandon) {
  const end = () => {
    setTimeout(() => process.exit(1), END_MS).unref();
    close().then(() => process.exit(0), () => process.exit(1));
  };
  process.stdin.on("end", end);
  process.stdin.on("close", end);
  process.stdin.on("error", end);
  process.stdin.resume();
  for (const signal of /** @type {NodeJS.Signals[]} */ (["SIGTERM", "SIGINT", "SIGHUP"])) process.on(signal, end);
  process.on("exit", abandon);
  // One session's trouble must not end the others. What it says may hold anything: its kind is all that is told.
  process.on("unhandledRejection", (error) => {
    process.stderr.write(`unhandled: ${error instanceof Error ? error.name : typeof error}\n`);
  });
  process.stdout.on("error", end);
}

/** @param {string | undefined} text */
function launcherOf(text) {
  if (text === undefined) return [];
  const words = JSON.parse(text);
  if (!Array.isArray(words) || !words.length || !words.every((word) => typeof word === "string" && word !== "")) {
    throw new Error("--launcher is not a JSON array of words");
  }
  return /** @type {string[]} */ (words);
}

/** @param {string} text */
function portOf(text) {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`--port ${text} is no port`);
  return port;
}

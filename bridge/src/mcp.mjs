/** The MCP server on stdio: the same sessions for a client that speaks no other protocol. */

import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";

import { GRANTABLE, READING } from "./confinement.mjs";
import { BridgeError } from "./errors.mjs";
import { kindOf } from "./paths.mjs";
import { checkedArguments, TOOLS } from "./mcp_tools.mjs";
import { Sessions } from "./sessions.mjs";
import { VERSION } from "./versions.mjs";

/**
 * @typedef {import("./session.mjs").Start} Start
 * @typedef {object} Asking  how a call is told of the text as it comes, and of its cancellation
 * @property {(text: string) => void} progress
 * @property {AbortSignal} signal
 */

/** The variables that Claude Code inherits; nothing else of our environment reaches it. */
const PASSED_ON = [
  "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "CLAUDE_CONFIG_DIR",
  "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
  "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
  "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN",
];
const FIXED = {
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  CLAUDE_CODE_DISABLE_AUTO_MEMORY: "1",
  CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1",
  CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: "1",
  CLAUDE_CODE_DISABLE_CLAUDE_MDS: "1",
  CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK: "1",
  CLAUDE_CODE_NO_MODEL_FALLBACK: "1",
  CLAUDE_CODE_MAX_RETRIES: "4",
  ENABLE_TOOL_SEARCH: "false",
  DISABLE_AUTOUPDATER: "1",
  DISABLE_TELEMETRY: "1",
  DISABLE_ERROR_REPORTING: "1",
};
const SYSTEM =
  "You answer questions about the files in your working directory. Look there before you answer, and say so where they do not tell.";
const MODEL = "default";
const MAX_OUTPUT_TOKENS = 32_000;
const MOST_SESSIONS = 8;
const WINDOW = 1_000;

/** The tools over a set of sessions. */
export class McpBridge {
  #scratch = mkdtempSync(join(tmpdir(), "claude-comms-bridge-"));
  #allowed;
  #binary;

  /**
   * @param {object} options
   * @param {string[]} [options.tools]  those of Claude Code that sessions may be given
   * @param {string} [options.binary]
   * @param {string[]} options.launcher
   */
  constructor({ tools = READING, binary, launcher }) {
    const unknown = tools.find((tool) => !GRANTABLE.includes(tool));
    if (unknown !== undefined) throw new Error(`there is no tool ${unknown} to give. There are: ${GRANTABLE.join(", ")}`);
    this.#allowed = tools;
    this.#binary = binary;
    this.sessions = new Sessions({ launcher, notify: () => {} });
  }

  /**
   * What a tool gives; throws BridgeError with what to do.
   * @param {string} tool
   * @param {unknown} given
   * @param {Asking} asking
   * @returns {Promise<Record<string, unknown>>}
   */
  async call(tool, given, asking) {
    const values = checkedArguments(tool, given);
    switch (tool) {
      case "claude_code":
        return await this.#claudeCode(values, asking);
      case "open":
        return await this.#started(randomUUID(), values, false);
      case "resume":
        return await this.#started(values.session, values, true);
      case "turn":
        return await this.#turn(values.session, values.text, values.model, asking);
      case "interrupt":
        return this.sessions.interruptAny(values.session);
      case "close":
        return await this.sessions.close({ session: values.session, discard: values.discard });
      case "list":
        return this.sessions.list();
      default:
        return await this.sessions.health(values);
    }
  }

  /**
   * @param {Record<string, any>} values
   * @param {Asking} asking
   */
  async #claudeCode({ prompt, workFolder, session: known }, asking) {
    const session = known ?? randomUUID();
    const there = this.sessions.list().sessions.find((one) => one.session === session && one.state !== "dead");
    if (there && realpathSync(there.directory) !== realpathSync(this.#directory(workFolder))) {
      throw new BridgeError("unavailable", `session ${session} sits in ${there.directory}. Give that as workFolder, or leave session out.`);
    }
    if (!there) await this.#started(session, { directory: workFolder }, known !== undefined);
    const { text } = await this.#turn(session, prompt, undefined, asking);
    return { session, text };
  }

  /**
   * @param {string} session
   * @param {Record<string, any>} values
   * @param {boolean} resumed
   */
  async #started(session, values, resumed) {
    const directory = this.#directory(values.directory);
    const tools = values.tools ?? READING.filter((tool) => this.#allowed.includes(tool));
    for (const tool of tools) {
      if (this.#allowed.includes(tool)) continue;
      throw new BridgeError("denied", `this server gives no session ${tool}. It was started with: ${this.#allowed.join(", ")}.`, { grant: tool });
    }
    await this.#makeRoom();
    const scratch = join(this.#scratch, session);
    mkdirSync(scratch, { recursive: true, mode: 0o700 });
    /** @type {Start} */
    const start = {
      session,
      directory,
      system: values.system ?? SYSTEM,
      model: values.model ?? MODEL,
      max_output_tokens: values.max_output_tokens ?? MAX_OUTPUT_TOKENS,
      tools,
      directories: [],
      mcp_servers: {},
      environment: environmentFor(scratch),
      scratch,
      ...(this.#binary === undefined ? {} : { binary: this.#binary }),
    };
    return resumed ? await this.sessions.resume(start) : await this.sessions.open(start);
  }

  /** @param {string} path */
  #directory(path) {
    if (kindOf(path) === "directory") return path;
    throw new BridgeError("unavailable", `${path} is no directory. Give the absolute path of one that exists.`);
  }

  /** Let the session go that has been idle longest; it can be resumed. */
  async #makeRoom() {
    const { sessions } = this.sessions.list();
    const idle = sessions.find((one) => one.state === "idle" || one.state === "dead");
    if (sessions.length >= MOST_SESSIONS && idle) await this.sessions.close({ session: idle.session, discard: false });
  }

  /**
   * @param {string} session
   * @param {string} text
   * @param {string | undefined} model
   * @param {Asking} asking
   */
  async #turn(session, text, model, { progress, signal }) {
    const turn = randomUUID();
    /** @type {string[]} */
    const pieces = [];
    /** @param {string} method @param {Record<string, unknown>} params */
    const notify = (method, params) => {
      if (method === "turn.delta") {
        pieces.push(String(params.text));
        progress(String(params.text));
      }
      // At the next opportunity: the exchange is in the middle of telling us.
      if (method === "turn.ready") setImmediate(() => this.sessions.credit({ session, turn, pieces: WINDOW }));
      if (method === "turn.delta") setImmediate(() => this.sessions.credit({ session, turn, pieces: 1 }));
    };
    const stop = () => this.sessions.interruptIfRunning({ session, turn });
    signal.addEventListener("abort", stop);
    try {
      const request = { session, turn, text, window: WINDOW, ...(model === undefined ? {} : { model }) };
      const result = await this.sessions.turn(request, { notify, exchanges: new Set() });
      return { ...result, text: pieces.join("") };
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** Close all sessions. */
  async close() {
    await this.sessions.closeAll();
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/**
 * The whole environment of a process, out of an allow-list.
 * @param {string} scratch
 */
function environmentFor(scratch) {
  /** @type {Record<string, string>} */
  const passed = {};
  for (const name of PASSED_ON) {
    const value = process.env[name];
    if (value) passed[name] = value;
  }
  return { ...passed, ...FIXED, CLAUDE_CODE_TMPDIR: scratch, TMPDIR: scratch };
}

/**
 * Serve on this process's stdin and stdout.
 * @param {{tools?: string[], binary?: string, launcher: string[]}} options
 */
export async function serveMcp(options) {
  const bridge = new McpBridge(options);
  const server = new Server({ name: "claude-comms-bridge", version: VERSION }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, () => /** @type {any} */ ({ tools: TOOLS }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    const token = params._meta?.progressToken;
    let count = 0;
    /** @param {string} message */
    const progress = (message) => {
      if (token === undefined) return;
      const told = { progressToken: token, progress: ++count, message };
      extra.sendNotification({ method: "notifications/progress", params: told }).catch(() => {});
    };
    return /** @type {any} */ (await answered(bridge.call(params.name, params.arguments, { progress, signal: extra.signal })));
  });
  await server.connect(new StdioServerTransport());
  return bridge;
}

/**
 * A call's outcome as MCP has it: what went wrong is told to the model, which can do something about it.
 * @param {Promise<Record<string, unknown>>} call
 */
async function answered(call) {
  try {
    const result = await call;
    const shown = typeof result.text === "string" ? result.text : JSON.stringify(result);
    return { content: [{ type: "text", text: shown }], structuredContent: result };
  } catch (error) {
    const said = error instanceof BridgeError ? error.message : `the bridge failed (${error instanceof Error ? error.name : typeof error}). Ask again.`;
    return { content: [{ type: "text", text: said }], isError: true };
  }
}

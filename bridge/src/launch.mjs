/** A Claude Code process: its three streams, its death and its end, as claude_runtime/process.py has them. */

import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { constants } from "node:os";

import { BridgeError, crashed } from "./errors.mjs";
import { Lines } from "./lines.mjs";
import { printable, shorten } from "./text.mjs";

/**
 * @typedef {import("@anthropic-ai/claude-agent-sdk").SpawnOptions} SpawnOptions
 * @typedef {{exitCode: number | null, signal: NodeJS.Signals | null}} End
 */

const STDERR_KEPT_BYTES = 8 * 1024;
/** How long what a process said last is waited for, once it has ended. */
export const DRAIN_MS = 300;
const STEP_MS = 500;
/** The descriptor of the lifeline in the launcher: the one after the three standard streams. */
const LIFELINE_FD = 3;

/**
 * A program in a session of its own, under the launcher where there is one. It is what the SDK calls a
 * SpawnedProcess, and outlives neither `stop` nor this process: then the lifeline closes.
 */
export class LaunchedProcess extends EventEmitter {
  #child;
  #launched;
  #lifeline;
  #stopping = false;
  /** @type {Buffer[]} */
  #stderr = [];
  #quietUntil = 0;
  /** How it ended; null while it runs. @type {End | null} */
  end = null;

  /**
   * Start it. `unavailable` where that is impossible at once; later its end says so.
   * @param {Pick<SpawnOptions, "command" | "args" | "cwd" | "env">} options
   * @param {string[]} launcher  what is run with the number of the lifeline, the program and its arguments
   */
  constructor({ command, args, cwd, env }, launcher) {
    super();
    const [program, ...words] = launcher.length ? [...launcher, String(LIFELINE_FD), command, ...args] : [command, ...args];
    this.#launched = launcher.length > 0;
    this.lines = new Lines((error) => this.emit("broken", error));
    this.lastAliveAt = new Date();
    this.#child = spawn(program, words, { cwd, env, stdio: ["pipe", "pipe", "pipe", "pipe"], detached: true });
    this.#lifeline = this.#child.stdio[LIFELINE_FD];
    this.#lifeline?.on("error", () => {});
    this.stdin = /** @type {import("node:stream").Writable} */ (this.#child.stdin);
    this.stdout = this.lines;
    this.#connect();
    /** @type {Promise<End>} */
    this.ended = new Promise((resolve) => this.once("ended", resolve));
  }

  #connect() {
    const { stdin, stdout, stderr } = this.#child;
    if (!stdin || !stdout || !stderr) throw new BridgeError("unavailable", "the process has no pipes.");
    // Its own error comes with its end.
    for (const stream of [stdin, stdout, stderr]) stream.on("error", () => {});
    stdout.on("data", () => this.#heard());
    stdout.pipe(this.lines);
    stderr.on("data", (data) => this.#keep(data));
    this.#child.on("error", (error) => this.#failed(error));
    this.#child.on("exit", (code, signal) => this.#exited({ exitCode: code, signal }));
  }

  /**
   * @param {Error} error
   */
  #failed(error) {
    if (this.#child.pid !== undefined) return; // a signal that could not be sent
    this.#keep(Buffer.from(`cannot start: ${error.message}\n`));
    this.#exited({ exitCode: 127, signal: null });
  }

  /**
   * @param {End} end
   */
  #exited(end) {
    if (this.end) return;
    this.end = end;
    this.#cut();
    // A descendant that got away may hold stdout open: end the reading after what is in the pipe.
    setTimeout(() => this.lines.end(), DRAIN_MS).unref();
    this.emit("exit", end.exitCode, end.signal);
    this.emit("ended", end);
  }

  #heard() {
    this.lastAliveAt = new Date();
    this.#quietUntil = 0;
  }

  /**
   * @param {Buffer} data
   */
  #keep(data) {
    this.#heard();
    const kept = Buffer.concat([...this.#stderr, data]);
    this.#stderr = [kept.subarray(Math.max(0, kept.length - STDERR_KEPT_BYTES))];
  }

  // --- what the SDK asks of a process ---

  get killed() {
    return this.#child.killed;
  }

  get exitCode() {
    return this.end ? this.end.exitCode : null;
  }

  get signalCode() {
    return this.end ? this.end.signal : null;
  }

  /**
   * @param {NodeJS.Signals} signal
   */
  kill(signal) {
    return this.#child.kill(signal);
  }

  // --- while it runs ---

  /** The process id of the launcher, or of the program itself; null once it has ended. */
  get pid() {
    return this.end ? null : (this.#child.pid ?? null);
  }

  /** Whether it runs and nobody is stopping it. */
  get alive() {
    return this.end === null && !this.#stopping;
  }

  /** Whether it was told to end. */
  get stopping() {
    return this.#stopping;
  }

  /** The end of what it wrote to stderr, without control characters. */
  get stderrTail() {
    return printable(Buffer.concat(this.#stderr).toString("utf8")).trim();
  }

  /** How long it has said nothing, past what was expected. */
  get quietMs() {
    return Math.max(0, Date.now() - Math.max(this.lastAliveAt.getTime(), this.#quietUntil));
  }

  /**
   * Do not count the next `ms` as silence.
   * @param {number} ms
   */
  expectQuiet(ms) {
    if (ms > 0) this.#quietUntil = Date.now() + ms;
  }

  /** How it ended, to stand after "Claude Code". */
  get how() {
    if (!this.end) return "ended";
    return this.end.signal ? `was killed by signal ${signalNumber(this.end.signal)}` : `exited with code ${this.end.exitCode}`;
  }

  /** The error that says how it died. */
  crashed() {
    const tail = this.stderrTail;
    const said = tail ? ` It said: ${shorten(tail, 500)}` : "";
    return crashed(`Claude Code ${this.how} in the middle of its work.${said} Resume the session.`, {
      exitCode: this.end?.exitCode ?? null,
      signal: this.end?.signal ?? null,
      stderrTail: tail,
    });
  }

  // --- its end ---

  /**
   * End it and all it started, within 2 s: end of input, then the lifeline and SIGTERM, then SIGKILL.
   * @param {{gently?: boolean}} [how]  whether it may end by itself first
   */
  async stop({ gently = true } = {}) {
    this.#stopping = true;
    this.lines.hold(false);
    if (this.end) return;
    this.stdin.end();
    if (gently && (await this.#endsWithin(STEP_MS))) return;
    this.#cut();
    this.#signal("SIGTERM");
    if (await this.#endsWithin(STEP_MS)) return;
    this.#signal("SIGKILL");
    await this.#endsWithin(STEP_MS);
  }

  /** Let go of it without waiting. */
  abandon() {
    this.#stopping = true;
    this.#cut();
    this.#signal("SIGTERM");
  }

  #cut() {
    this.#lifeline?.destroy();
  }

  /**
   * To the launcher, which ends the rest; without one, to the process group, since nobody else tells the children.
   * @param {NodeJS.Signals} signal
   */
  #signal(signal) {
    const pid = this.#child.pid;
    if (pid === undefined || this.end) return;
    try {
      process.kill(this.#launched ? pid : -pid, signal);
    } catch {
      // it has just ended
    }
  }

  /**
   * @param {number} ms
   * @returns {Promise<boolean>}
   */
  async #endsWithin(ms) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
    await Promise.race([this.ended, late]);
    clearTimeout(timer);
    return this.end !== null;
  }
}

/**
 * @param {NodeJS.Signals} signal
 */
function signalNumber(signal) {
  return constants.signals[signal] ?? signal;
}

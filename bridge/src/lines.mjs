/** Claude Code's stdout on its way to the SDK, whose own reader loses what it cannot parse. */

import { Transform } from "node:stream";

import { BridgeError } from "./errors.mjs";
import { shorten } from "./text.mjs";

export const LONGEST_LINE_BYTES = 32 * 1024 * 1024;
const MOST_NOISE_LINES = 100;

/**
 * Passes on the lines that are JSON objects. While it is held it takes nothing more, and so its process has to wait.
 *
 * `broken` is called once with a `protocol` error for what is not Claude Code's protocol: a torn or endless line, or
 * too many remarks. Nothing is passed on after it. U+2028 and U+2029, at which Node's line reader would cut, are escaped.
 */
export class Lines extends Transform {
  /** @type {Buffer[]} the beginning of a line */
  #begun = [];
  #begunBytes = 0;
  #noise = 0;
  #held = false;
  #failed = false;
  /** @type {(() => void) | null} */
  #waiting = null;

  /**
   * @param {(error: BridgeError) => void} broken
   */
  constructor(broken) {
    super();
    this.broken = broken;
  }

  /**
   * @param {boolean} held
   */
  hold(held) {
    this.#held = held;
    if (held || !this.#waiting) return;
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting();
  }

  /**
   * @param {Buffer} chunk
   * @param {BufferEncoding} _encoding
   * @param {() => void} done
   */
  _transform(chunk, _encoding, done) {
    let from = 0;
    const passed = [];
    if (this.#failed) return done();
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const line = this.#line(chunk.subarray(from, end));
      from = end + 1;
      if (!this.#failed && this.#fits(line)) passed.push(line.replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029"), "\n");
    }
    if (from < chunk.length) this.#begin(chunk.subarray(from));
    if (passed.length) this.push(passed.join(""));
    if (this.#held) this.#waiting = done;
    else done();
  }

  /**
   * @param {Buffer} end
   */
  #line(end) {
    const whole = this.#begun.length ? Buffer.concat([...this.#begun, end]) : end;
    this.#begun = [];
    this.#begunBytes = 0;
    return whole.toString("utf8").trim();
  }

  /**
   * @param {Buffer} part
   */
  #begin(part) {
    this.#begunBytes += part.length;
    if (this.#begunBytes <= LONGEST_LINE_BYTES) this.#begun.push(part);
    else this.#fail(this.#begun[0] ?? part, `a line of more than ${LONGEST_LINE_BYTES >> 20} MB`);
  }

  /**
   * @param {string} line
   */
  #fits(line) {
    if (line.startsWith("{")) {
      try {
        JSON.parse(line);
        return true;
      } catch {
        this.#fail(Buffer.from(line.slice(0, 400)), "something that is not its protocol");
        return false;
      }
    }
    // Some builds write a remark to stdout now and then; something that only does so is not Claude Code.
    if (line !== "" && ++this.#noise > MOST_NOISE_LINES) this.#fail(Buffer.from(line), "something that is not its protocol");
    return false;
  }

  /**
   * @param {Buffer} start
   * @param {string} what
   */
  #fail(start, what) {
    if (this.#failed) return;
    this.#failed = true;
    this.#begun = [];
    this.#begunBytes = 0;
    const line = shorten(start.subarray(0, 400).toString("utf8"), 200);
    this.broken(
      new BridgeError("protocol", `Claude Code wrote ${what}: ${JSON.stringify(line)}. Ask again on a new process.`, { line }),
    );
  }
}

/** A turn's text on its way to the client, no faster than the client allows. */

/** The longest piece, in UTF-16 units. */
export const LONGEST_PIECE = 64 * 1024;

/**
 * Sends text in numbered pieces, one for each credit. What has no credit yet is joined; `say` waits once that is as
 * much as one piece holds, and so lets nobody produce more.
 */
export class Flow {
  #credit = 0;
  #waiting = "";
  #stopped = false;
  /** @type {Array<() => void>} */
  #wakers = [];
  /** How many pieces were sent. */
  pieces = 0;

  /**
   * @param {number} window  the most credit that counts
   * @param {(piece: number, text: string) => void} send
   * @param {(held: boolean) => void} [hold]  told when somebody begins and ceases to wait
   */
  constructor(window, send, hold = () => {}) {
    this.window = window;
    this.send = send;
    this.hold = hold;
  }

  /**
   * Allow `pieces` more.
   * @param {number} pieces
   */
  allow(pieces) {
    this.#credit = Math.min(this.window, this.#credit + pieces);
    this.#flush();
  }

  /** Let nobody wait any more: what has no credit now is never sent. */
  stop() {
    this.#stopped = true;
    this.#wake();
  }

  /** Whether all text has been sent. */
  get empty() {
    return this.#waiting === "";
  }

  /**
   * Send `text` as soon as there is credit.
   * @param {string} text
   */
  async say(text) {
    this.#waiting += text;
    this.#flush();
    await this.#until(() => this.#waiting.length < LONGEST_PIECE);
  }

  /** Return once all text has been sent, or after `stop`. */
  async sent() {
    await this.#until(() => this.empty);
  }

  /**
   * @param {() => boolean} done
   */
  async #until(done) {
    if (done() || this.#stopped) return;
    this.hold(true);
    while (!done() && !this.#stopped) await new Promise((resolve) => this.#wakers.push(() => resolve(undefined)));
    this.hold(false);
  }

  #flush() {
    let from = 0;
    while (this.#credit > 0 && from < this.#waiting.length) {
      const to = pieceEnd(this.#waiting, from);
      this.#credit -= 1;
      this.send(this.pieces++, this.#waiting.slice(from, to));
      from = to;
    }
    if (from === 0) return;
    this.#waiting = this.#waiting.slice(from);
    this.#wake();
  }

  #wake() {
    for (const wake of this.#wakers.splice(0)) wake();
  }
}

/**
 * Where the piece that begins at `from` ends: never between the halves of a pair.
 * @param {string} text
 * @param {number} from
 */
function pieceEnd(text, from) {
  const end = Math.min(text.length, from + LONGEST_PIECE);
  const splits = end < text.length && isHigh(text.charCodeAt(end - 1)) && isLow(text.charCodeAt(end));
  return splits ? end - 1 : end;
}

/** @param {number} unit */
const isHigh = (unit) => unit >= 0xd800 && unit <= 0xdbff;
/** @param {number} unit */
const isLow = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

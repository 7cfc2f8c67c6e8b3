/** The secret that opens the bridge. */

import { timingSafeEqual, createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";

const SHORTEST = 16;

/**
 * The token in a file that only its owner, who is us, can read. Throws with what to do where it is not so.
 * @param {string} path
 */
export function readToken(path) {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new Error(`${path} is no file.`);
    if (stat.uid !== process.getuid?.()) throw new Error(`${path} belongs to somebody else. Make a new one.`);
    if ((stat.mode & 0o777) !== 0o600) throw new Error(`others can use ${path}, or its mode is odd. Run: chmod 600 ${path}`);
    const token = readFileSync(file, "utf8").trim();
    if (!/^[\x21-\x7e]+$/.test(token) || token.length < SHORTEST) {
      throw new Error(`${path} holds no token: at least ${SHORTEST} printable characters without spaces.`);
    }
    return token;
  } finally {
    closeSync(file);
  }
}

/**
 * Whether an Authorization header carries the token, in a time that tells nothing about it.
 * @param {string | undefined} header
 * @param {string} token
 */
export function carriesToken(header, token) {
  const given = /^Bearer ([\x21-\x7e]+)$/i.exec(header ?? "")?.[1] ?? "";
  return timingSafeEqual(digest(given), digest(token));
}

/** @param {string} text */
function digest(text) {
  return createHash("sha256").update(text).digest();
}

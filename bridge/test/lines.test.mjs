/** What of a process's output reaches the SDK. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { Lines, LONGEST_LINE_BYTES } from "../src/lines.mjs";

/** @param {(string | Buffer)[]} chunks */
async function passed(chunks) {
  /** @type {import("../src/errors.mjs").BridgeError[]} */
  const broken = [];
  const lines = new Lines((error) => broken.push(error));
  let text = "";
  lines.on("data", (data) => (text += data));
  for (const chunk of chunks) lines.write(chunk);
  lines.end();
  await once(lines, "end");
  return { text, broken };
}

test("lines arrive whole however they were cut, in the middle of a character too", async () => {
  const bytes = Buffer.from('{"a":"é😀"}\n{"b":1}\n');
  for (let at = 0; at <= bytes.length; at++) {
    const { text, broken } = await passed([bytes.subarray(0, at), bytes.subarray(at)]);
    assert.deepEqual([text, broken], ['{"a":"é😀"}\n{"b":1}\n', []]);
  }
});

test("line separators inside a text are escaped, at which Node would cut the line", async () => {
  const { text } = await passed(['{"a":"x\u2028y\u2029z"}\n']);
  assert.equal(text, '{"a":"x\\u2028y\\u2029z"}\n');
});

test("remarks are left out, and too many of them are not the protocol", async () => {
  assert.deepEqual(await passed(["hello\n", "\n", '{"a":1}\n']), { text: '{"a":1}\n', broken: [] });
  const { broken } = await passed(["noise\n".repeat(101)]);
  assert.deepEqual([broken[0].type, broken[0].data.line], ["protocol", "noise"]);
});

test("a torn line is an error that shows its beginning; what stands before it is passed on, nothing after it", async () => {
  const { text, broken } = await passed(['{"z":0}\n{"a":1\n{"b":2}\n{"c":\n', '{"d":3}\n']);
  assert.equal(text, '{"z":0}\n');
  assert.deepEqual([broken.length, broken[0].type, broken[0].data.line], [1, "protocol", '{"a":1']);
});

test("a line of 10 MB passes; an endless one is an error, and is not kept", async () => {
  const long = `{"a":"${"x".repeat(10_000_000)}"}\n`;
  assert.equal((await passed([long])).text.length, long.length);
  const { broken } = await passed(["{", ...Array(LONGEST_LINE_BYTES / 1_048_576 + 1).fill("x".repeat(1_048_576))]);
  assert.equal(broken[0].type, "protocol");
});

test("while it is held nothing more is taken", async () => {
  const lines = new Lines(() => {});
  let text = "";
  lines.on("data", (data) => (text += data));
  lines.hold(true);
  for (const n of [1, 2, 3]) lines.write(`{"a":${n}}\n`);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(text, '{"a":1}\n');
  lines.hold(false);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(text, '{"a":1}\n{"a":2}\n{"a":3}\n');
});

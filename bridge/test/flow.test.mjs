/** What a client gets of a turn's text, and when. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Flow, LONGEST_PIECE } from "../src/flow.mjs";

/** @param {number} window */
function flowing(window = 1000) {
  /** @type {string[]} */
  const sent = [];
  /** @type {boolean[]} */
  const held = [];
  const flow = new Flow(window, (piece, text) => sent.push(`${piece}:${text}`), (now) => held.push(now));
  return { flow, sent, held, text: () => sent.map((one) => one.slice(one.indexOf(":") + 1)).join("") };
}

/** Whether `promise` is settled once everything that can run has run. @param {Promise<unknown>} promise */
async function settled(promise) {
  let done = false;
  promise.then(() => (done = true));
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test("without credit nothing is sent, and what waits is sent as one piece", async () => {
  const { flow, sent } = flowing();
  await flow.say("a");
  await flow.say("b");
  assert.deepEqual(sent, []);
  flow.allow(1);
  assert.deepEqual(sent, ["0:ab"]);
  assert.equal(flow.pieces, 1);
});

test("with credit each text is a piece of its own", async () => {
  const { flow, sent } = flowing();
  flow.allow(3);
  for (const text of ["a", "b", "c", "d"]) await flow.say(text);
  assert.deepEqual(sent, ["0:a", "1:b", "2:c"]);
});

test("credit beyond the window does not count", async () => {
  const { flow, sent } = flowing(2);
  flow.allow(100);
  for (const text of ["a", "b", "c"]) await flow.say(text);
  assert.deepEqual(sent, ["0:a", "1:b"]);
});

test("who says more than one piece holds waits, and is told to be held, until there is credit", async () => {
  const { flow, sent, held } = flowing();
  const saying = flow.say("x".repeat(LONGEST_PIECE));
  assert.equal(await settled(saying), false);
  assert.deepEqual(held, [true]);
  flow.allow(1);
  await saying;
  assert.deepEqual(held, [true, false]);
  assert.equal(sent.length, 1);
});

test("a long text goes in pieces that never split a pair of surrogates", async () => {
  const { flow, sent, text } = flowing();
  const long = `x${"😀".repeat(LONGEST_PIECE)}`;
  flow.allow(100);
  await flow.say(long);
  assert.equal(text(), long);
  assert.equal(sent.length, 3);
  for (const piece of sent) assert.equal(Buffer.from(piece).toString(), piece);
});

test("a lone surrogate crosses as it is", async () => {
  const { flow, text } = flowing();
  flow.allow(5);
  await flow.say("a\ud800");
  await flow.say("\udc00b\udfff");
  assert.equal(text(), "a\ud800\udc00b\udfff");
});

test("after stop nobody waits, and what has no credit stays unsent", async () => {
  const { flow, sent } = flowing();
  const saying = flow.say("x".repeat(LONGEST_PIECE));
  flow.stop();
  await saying;
  await flow.sent();
  assert.deepEqual(sent, []);
  assert.equal(flow.empty, false);
});

test("over 500 random streams all text arrives, byte for byte, in order", async () => {
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (let stream = 0; stream < 500; stream++) {
    const { flow, sent, text } = flowing(1 + Math.floor(random() * 20));
    const said = Array.from({ length: 1 + Math.floor(random() * 30) }, () => "aé😀\n\u2028".repeat(Math.floor(random() * 40)));
    const saying = (async () => {
      for (const one of said) await flow.say(one);
      await flow.sent();
    })();
    while (!(await settled(saying))) flow.allow(1 + Math.floor(random() * 5));
    assert.equal(text(), said.join(""));
    sent.forEach((piece, index) => assert.ok(piece.startsWith(`${index}:`)));
  }
});

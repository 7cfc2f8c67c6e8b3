/** Per-turn figures out of cumulative ones. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { UsageMeter } from "../src/usage.mjs";

/** @param {number} input @param {number} output */
const totals = (input, output) => ({ m: { inputTokens: input, outputTokens: output, cacheReadInputTokens: 0, cacheCreationInputTokens: 0 } });

/** @param {UsageMeter} meter @param {string} id @param {number} input @param {number} output */
function streamed(meter, id, input, output) {
  meter.sawEvent({ type: "message_start", message: { id, usage: { input_tokens: input, output_tokens: 1 } } });
  meter.sawEvent({ type: "message_delta", usage: { output_tokens: output } });
}

test("each turn has its own share of the totals", () => {
  const meter = new UsageMeter({ resumed: false });
  const first = meter.take(totals(10, 5), 0.1, { complete: true });
  const second = meter.take(totals(30, 6), 0.25, { complete: true });
  assert.deepEqual([first.input_tokens, first.output_tokens, first.cost_usd], [10, 5, 0.1]);
  assert.deepEqual([second.input_tokens, second.output_tokens], [20, 1]);
  assert.ok(Math.abs((second.cost_usd ?? 0) - 0.15) < 1e-9);
});

test("the first turn of a resumed session is counted from the stream, at no known price", () => {
  const meter = new UsageMeter({ resumed: true });
  meter.beginTurn();
  streamed(meter, "a", 7, 3);
  streamed(meter, "b", 2, 1);
  const usage = meter.take(totals(1000, 1000), 9, { complete: true });
  assert.deepEqual([usage.input_tokens, usage.output_tokens, usage.cost_usd], [9, 4, null]);
  assert.equal(meter.requests.length, 2);
});

test("a turn that is not complete counts what the API said, at the price that the totals tell", () => {
  const meter = new UsageMeter({ resumed: false });
  meter.beginTurn();
  streamed(meter, "a", 7, 3);
  const usage = meter.take(totals(7, 999), 0.5, { complete: false });
  assert.deepEqual([usage.input_tokens, usage.output_tokens, usage.cost_usd], [7, 3, 0.5]);
});

test("totals that begin again, and after /clear, are not compared with the old ones", () => {
  const meter = new UsageMeter({ resumed: false });
  meter.take(totals(100, 100), 1, { complete: true });
  assert.equal(meter.take(totals(10, 5), 0.1, { complete: true }).input_tokens, 10);
  meter.cleared();
  assert.equal(meter.take(totals(11, 5), 0.1, { complete: true }).input_tokens, 11);
});

test("senseless figures count as nothing", () => {
  const meter = new UsageMeter({ resumed: false });
  const odd = { m: { inputTokens: -1, outputTokens: NaN, cacheReadInputTokens: 2 ** 60, cacheCreationInputTokens: "5" } };
  assert.deepEqual(meter.take(odd, Infinity, { complete: true }), {
    input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0, cost_usd: 0,
  });
  assert.equal(meter.take(null, null, { complete: true }).cost_usd, 0);
});

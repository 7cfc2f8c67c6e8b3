/** What the SDK is told: each guard by itself, since one that fails is hidden by the others where a real turn is tried. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { denyRules } from "../src/confinement.mjs";
import { optionsFor } from "../src/options.mjs";

const ROOT = mkdtempSync(join(tmpdir(), "bridge-options-"));
after(() => rmSync(ROOT, { recursive: true }));

/** @type {import("../src/options.mjs").Host} */
const HOST = {
  rule: (_useId, tool) => ({ allowed: tool === "Read", target: "", reason: `what is said of ${tool}`, path: null }),
  spawn: () => {
    throw new Error("nothing is started here");
  },
};

/** @param {Record<string, unknown>} [changes] @param {boolean} [resumed] */
function options(changes = {}, resumed = false) {
  const start = {
    session: randomUUID(), directory: ROOT, system: "Keep this.", model: "m", max_output_tokens: 4711,
    tools: ["Read", "Grep"], directories: ["/somewhere"], mcp_servers: {}, environment: { A: "b" },
    scratch: join(ROOT, "scratch"), ...changes,
  };
  return optionsFor(start, resumed, HOST);
}

test("a session is confined by what is given at its start", () => {
  const given = options();
  assert.deepEqual(given.tools, ["Read", "Grep"]);
  assert.deepEqual(given.additionalDirectories, ["/somewhere"]);
  assert.deepEqual([given.settingSources, given.strictMcpConfig, given.permissionMode], [[], true, "default"]);
  assert.deepEqual(given.extraArgs, { restricted: null });
  assert.deepEqual(given.env, { A: "b", CLAUDE_CODE_MAX_OUTPUT_TOKENS: "4711" });
});

test("the hook before a tool decides as our rules do, and blocks should it fail", async () => {
  const [matcher] = options().hooks?.PreToolUse ?? [];
  assert.equal(/** @type {any} */ (matcher).onFailure, "block");
  for (const [tool, decision] of [["Read", "allow"], ["Write", "deny"]]) {
    const input = /** @type {any} */ ({ hook_event_name: "PreToolUse", tool_name: tool, tool_input: {} });
    const said = await matcher.hooks[0](input, "toolu_1", { signal: new AbortController().signal });
    assert.deepEqual(said, {
      hookSpecificOutput: {
        hookEventName: "PreToolUse", permissionDecision: decision, permissionDecisionReason: `what is said of ${tool}`,
      },
    });
  }
});

test("a request for permission is decided as our rules do", async () => {
  const asked = /** @type {any} */ ({ signal: new AbortController().signal, toolUseID: "toolu_1" });
  const { canUseTool } = options();
  assert.deepEqual(await canUseTool?.("Read", { a: 1 }, asked), { behavior: "allow", updatedInput: { a: 1 } });
  assert.deepEqual(await canUseTool?.("Write", {}, asked), { behavior: "deny", message: "what is said of Write" });
});

test("Claude Code gets our deny rules in a file that is its owner's alone, whatever was there", () => {
  const path = join(ROOT, "scratch/settings.json");
  options();
  writeFileSync(path, "{}", { mode: 0o644 });
  const { settings } = options();
  assert.equal(settings, path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(join(ROOT, "scratch")).mode & 0o777, 0o700);
  const { permissions } = JSON.parse(readFileSync(path, "utf8"));
  assert.deepEqual(permissions, { deny: denyRules() });
  assert.ok(permissions.deny.includes("Read(**/.env)"));
});

test("a session is new under its own id, or resumed from its file up to its last answer", () => {
  const session = randomUUID();
  const fresh = options({ session, position: "row" });
  assert.deepEqual([fresh.sessionId, fresh.resume, fresh.resumeSessionAt], [session, undefined, undefined]);
  const resumed = options({ session, transcript: "/there.jsonl", position: "row" }, true);
  assert.deepEqual([resumed.sessionId, resumed.resume, resumed.resumeSessionAt], [undefined, "/there.jsonl", "row"]);
  assert.equal(options({ session }, true).resume, session);
});

/** The same table as the Python tests of the same rules. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";

import { Confinement, denyRules, FILE_TOOLS, secretIn, SECRET_NAMES } from "../src/confinement.mjs";

const TABLE = JSON.parse(readFileSync(new URL("confinement_cases.json", import.meta.url), "utf8"));
const ROOT = mkdtempSync(join(tmpdir(), "confinement-"));
after(() => rmSync(ROOT, { recursive: true }));

/** @type {Record<string, RegExp>} */
const KINDS = {
  granted: /granted/,
  not_granted: /is not granted$/,
  outside: /^outside the module's path$/,
  secret: /^looks like a secret \(/,
  odd: /^neither a file nor a directory$/,
  unfollowed: /^the path cannot be followed$/,
  undecided: /^it could not be decided: /,
};

/** `$DIR` and `$LONG` put in. @param {any} value @returns {any} */
function filled(value) {
  if (typeof value === "string") return value.replaceAll("$DIR", ROOT).replaceAll("$LONG", "x".repeat(5000));
  if (Array.isArray(value)) return value.map(filled);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, filled(inner)]));
}

for (const file of TABLE.files) {
  mkdirSync(dirname(join(ROOT, file)), { recursive: true });
  writeFileSync(join(ROOT, file), "x");
}
for (const [link, target] of Object.entries(TABLE.links)) symlinkSync(filled(target), join(ROOT, link));
for (const fifo of TABLE.fifos) execFileSync("mkfifo", [join(ROOT, fifo)]);

TABLE.cases.forEach((/** @type {any} */ one, /** @type {number} */ index) => {
  const verb = one.allowed ? "may" : "may not";
  test(`case ${index}: ${one.tool} ${verb} take ${JSON.stringify(one.arguments)}`, () => {
    const servers = Object.fromEntries(Object.entries(one.servers ?? {}).map(([name, tools]) => [name, { tools }]));
    const grants = { directory: join(ROOT, "module"), tools: one.tools ?? FILE_TOOLS, directories: filled(one.directories ?? []), servers };
    const decision = new Confinement(/** @type {any} */ (grants)).rule(one.tool, filled(one.arguments));
    assert.equal(decision.allowed, one.allowed, decision.reason);
    assert.match(decision.reason, KINDS[one.kind]);
    assert.equal(decision.path, filled(one.path ?? null));
  });
});

test("a directory that does not exist cannot be granted", () => {
  const grants = { directory: ROOT, tools: [], directories: [join(ROOT, "nowhere")] };
  assert.throws(() => new Confinement(grants), { type: "denied", data: { grant: `directory:${ROOT}/nowhere` } });
});

test("every pattern is a deny rule for Claude Code, too, and matches itself", () => {
  assert.equal(denyRules().length, 2 * SECRET_NAMES.length);
  for (const name of SECRET_NAMES) assert.notEqual(secretIn([name.replaceAll("*", "x")]), null);
  assert.equal(secretIn(["environment.py", "keys", "monkey"]), null);
});

/** The files in which Claude Code keeps sessions. */

import { readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

/**
 * Delete the session's file, and what lies beside it under its name.
 * @param {import("./session.mjs").Session} session
 */
export function discardTranscript(session) {
  const { CLAUDE_CONFIG_DIR: config, HOME: home = "/" } = session.given.environment;
  const found = session.given.transcript ?? findTranscript(config ?? join(home, ".claude"), session.id);
  if (found === null) return;
  rmSync(found, { force: true });
  rmSync(join(dirname(found), session.id), { recursive: true, force: true });
}

/**
 * @param {string} config
 * @param {string} id
 */
function findTranscript(config, id) {
  const projects = join(config, "projects");
  try {
    for (const folder of readdirSync(projects)) {
      if (readdirSync(join(projects, folder)).includes(`${id}.jsonl`)) return join(projects, folder, `${id}.jsonl`);
    }
  } catch {
    // there are none
  }
  return null;
}

/** What may cross, by schema.json. */

import { readFileSync } from "node:fs";

import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";

/** @type {{$id: string, $defs: Record<string, Record<string, any>>}} */
export const SCHEMA = JSON.parse(readFileSync(new URL("../schema.json", import.meta.url), "utf8"));

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false });
/** @type {(ajv: Ajv2020) => unknown} */ (/** @type {unknown} */ (formats))(ajv);
ajv.addSchema(SCHEMA);

/**
 * @typedef {{path: string, problem: string}} Problem  where a message is wrong, as a JSON pointer, and how
 */

/**
 * What is wrong with `value` by the definition of that name; null where nothing is.
 * @param {string} name  of one in $defs
 * @param {unknown} value
 * @returns {Problem | null}
 */
export function problemOf(name, value) {
  const validate = ajv.getSchema(`${SCHEMA.$id}#/$defs/${name}`);
  if (!validate) throw new RangeError(`schema.json defines no ${name}`);
  if (!validate(value)) {
    const [error] = validate.errors ?? [];
    const extra = error?.params?.additionalProperty ?? error?.params?.unevaluatedProperty;
    const more = extra === undefined ? "" : ` (${JSON.stringify(extra)})`;
    return { path: error?.instancePath ?? "", problem: `${error?.message ?? "it is wrong"}${more}` };
  }
  return null;
}

/**
 * The first number that cannot cross unharmed, anywhere in `value`: JSON has larger ones than JavaScript can hold.
 * @param {unknown} value
 * @param {string} [path]
 * @returns {Problem | null}
 */
export function lossyNumber(value, path = "") {
  if (typeof value === "number" && (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value)))) {
    return { path, problem: "must be within ±(2^53-1)" };
  }
  if (typeof value !== "object" || value === null) return null;
  for (const [key, inner] of Object.entries(value)) {
    const found = lossyNumber(inner, `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`);
    if (found) return found;
  }
  return null;
}

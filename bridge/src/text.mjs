/** Foreign text made safe and short, as claude_comms/text.py does. */

// C0 and C1 controls without tab and newline; bidirectional overrides and isolates.
// eslint-disable-next-line no-control-regex
const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * `text` without what acts on a terminal; tabs and newlines stay.
 * @param {string} text
 */
export function printable(text) {
  return text.replace(UNSAFE, "").replace(LONE, "");
}

/**
 * `text` made printable, with each run of white space as one space.
 * @param {string} text
 */
export function oneLine(text) {
  return printable(text.replace(/\r/g, " ")).trim().replace(/\s+/g, " ");
}

/**
 * `text` on one line of at most `width` characters, ending in an ellipsis where something was cut.
 * @param {string} text
 * @param {number} width
 */
export function shorten(text, width) {
  // A long text is not worked through for its first words.
  const line = oneLine(text.length > 100_000 ? text.slice(0, 100_000) : text);
  const characters = line.length <= width ? [] : Array.from(line.slice(0, 2 * width + 2));
  if (line.length <= width || characters.length <= width) return line;
  return `${characters.slice(0, Math.max(0, width - 1)).join("").trimEnd()}…`;
}

/**
 * A value as an object, or an empty one: for what comes from outside.
 * @param {unknown} value
 * @returns {Record<string, any>}
 */
export function asObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

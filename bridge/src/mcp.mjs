/** @param {{tools?: string[], binary?: string, launcher: string[]}} _options @returns {Promise<any>} */
export async function serveMcp(_options) {
  throw new Error("not yet");
}

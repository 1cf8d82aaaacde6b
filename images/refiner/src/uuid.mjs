import { createHash } from "node:crypto";

/**
 * Name-based UUID, version 5 (RFC 9562, section 5.5): the same name always gives the same UUID.
 *
 * @param {string} name
 * @param {string} namespace a UUID
 * @returns {string}
 */
export function uuidv5(name, namespace) {
  const hash = createHash("sha1").update(Buffer.from(namespace.replaceAll("-", ""), "hex")).update(name, "utf8").digest();
  hash[6] = (hash[6] & 0x0f) | 0x50;
  hash[8] = (hash[8] & 0x3f) | 0x80;
  return hash.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

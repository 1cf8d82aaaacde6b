import { uuidv5 } from "./uuid.mjs";

// Chosen once at random. Another value renames every output and so breaks the promise that a redelivery overwrites.
const OUTPUT_NAMESPACE = "955926d8-0291-4828-aa5b-aba22045eec5";

const OUTPUTS_PER_INPUT = 2;

// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
const MAX_KEY_BYTES = 1024;

/**
 * Where the completion of an input goes: the input's whole name below its prefix, with a suffix appended.
 *
 * @param {string} key the input's
 * @param {import("./config.mjs").Config} config
 * @returns {string}
 * @throws {Error} if the input has no place below its prefix
 */
export function completionKey(key, config) {
  const result = `${config.completePrefix}${nameBelowPrefix(key, config)}${config.completeSuffix}`;
  if (Buffer.byteLength(result) > MAX_KEY_BYTES) {
    throw new Error(`The completion's key would exceed ${MAX_KEY_BYTES} bytes: ${result}`);
  }
  return result;
}

function nameBelowPrefix(key, config) {
  const prefix = config.inputPrefix ?? firstSegment(key, config);
  if (!key.startsWith(prefix) || key === prefix) {
    throw new Error(`The key "${key}" is not below the input prefix "${prefix}"`);
  }
  return key.slice(prefix.length);
}

// Stands in for the input prefix, so it must not hold the outputs either: see refuseLoops in config.mjs.
function firstSegment(key, { outputPrefix, completePrefix }) {
  const segment = key.slice(0, key.indexOf("/") + 1);
  if (segment === "" || segment === "/") {
    throw new Error(`The key "${key}" is not below any prefix`);
  }
  if (outputPrefix.startsWith(segment) || completePrefix.startsWith(segment)) {
    throw new Error(`The key "${key}" is below a prefix that this function writes to`);
  }
  return segment;
}

/**
 * The outputs' keys: a function of what was read, so that a message delivered twice writes the same keys twice.
 *
 * @param {{bucket: string, key: string, version: string}} source
 * @param {import("./config.mjs").Config} config
 * @returns {string[]}
 */
export function outputKeys({ bucket, key, version }, { outputPrefix }) {
  return Array.from({ length: OUTPUTS_PER_INPUT }, (_, index) => {
    // A JSON array, because joined strings could be equal for different sources.
    const name = JSON.stringify([bucket, key, version, index]);
    return `${outputPrefix}${uuidv5(name, OUTPUT_NAMESPACE)}.txt`;
  });
}

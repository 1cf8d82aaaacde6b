/**
 * @typedef {object} Config
 * @property {string} [inputPrefix] key prefix of the ruleset; when absent it is each key's first path segment
 * @property {string} outputPrefix key prefix of the outputs
 * @property {string} completePrefix key prefix of the completions
 * @property {string} completeSuffix what a completion's name ends in
 */

/**
 * Reads the function's environment. Prefixes are accepted with or without a leading slash and come out as S3 key
 * prefixes: without a leading slash, with a trailing one.
 *
 * @param {Record<string, string | undefined>} env
 * @returns {Config}
 * @throws {Error} naming the variable that is missing or wrong
 */
export function readConfig(env) {
  const config = {
    inputPrefix: env.REFINER_INPUT_PREFIX ? readPrefix(env, "REFINER_INPUT_PREFIX") : undefined,
    outputPrefix: readPrefix(env, "REFINER_OUTPUT_PREFIX"),
    completePrefix: readPrefix(env, "REFINER_COMPLETE_PREFIX"),
    completeSuffix: readSuffix(env, "REFINER_COMPLETE_SUFFIX") ?? ".json",
  };
  refuseLoops(config);
  return config;
}

function readPrefix(env, name) {
  const value = env[name];
  if (!value) {
    throw new Error(`${name} is not set; it must be a key prefix such as /RefinerOutput/`);
  }
  if (!/^\/?[^/](.*[^/])?\/$/s.test(value)) {
    throw new Error(`${name} is "${value}"; it must be a key prefix that ends in one slash, such as /RefinerOutput/`);
  }
  return value.replace(/^\//, "");
}

function readSuffix(env, name) {
  const value = env[name];
  if (value && !/^[\w.-]+$/.test(value)) {
    throw new Error(`${name} is "${value}"; it must have only letters, digits, dots, hyphens and underscores, such as .json`);
  }
  return value || undefined;
}

// An object written below the input prefix is an input of its own, whose output would be an input, and so on.
function refuseLoops({ inputPrefix, outputPrefix, completePrefix }) {
  for (const prefix of [outputPrefix, completePrefix]) {
    if (inputPrefix !== undefined && prefix.startsWith(inputPrefix)) {
      throw new Error(`The prefix "${prefix}" is below REFINER_INPUT_PREFIX "${inputPrefix}": outputs would become inputs`);
    }
  }
}

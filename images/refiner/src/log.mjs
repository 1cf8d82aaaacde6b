/**
 * A logger that writes one JSON object per line.
 *
 * It writes to stdout itself because Lambda's `console.log` puts text before each line.
 *
 * @param {object} [fields] present on every line
 * @param {(line: string) => void} [write]
 */
export function createLogger(fields = {}, write = (line) => process.stdout.write(line)) {
  const log = (level) => (message, more) => {
    write(`${JSON.stringify({ timestamp: new Date().toISOString(), level, message, ...fields, ...more })}\n`);
  };
  return {
    info: log("INFO"),
    warn: log("WARN"),
    error: log("ERROR"),
    child: (more) => createLogger({ ...fields, ...more }, write),
  };
}

/**
 * What is worth logging of an error: of S3's errors also the status and the id that AWS Support asks for.
 *
 * @param {Error} error
 */
export function describeError(error) {
  return {
    name: error.name,
    message: error.message,
    code: error.code,
    httpStatusCode: error.$metadata?.httpStatusCode,
    s3RequestId: error.$metadata?.requestId,
    stack: error.stack,
  };
}

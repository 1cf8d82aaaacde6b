// A Lambda runtime client for Node.js: asks the Runtime API for invocations and runs the image's handler on them.
// Stands in for aws-lambda-ric, which compiles native code on installation.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
import { existsSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [taskRoot, handlerName] = process.argv.slice(2);
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const BASE = '/2018-06-01/runtime';

function call(method, route, body, headers = {}, connection = agent) {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(body);
    const request = http.request(
      { host, port, agent: connection, method, path: BASE + route, headers: { ...headers, 'content-length': payload?.length ?? 0 } },
      (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString('utf8') }));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(payload);
  });
}

function describe(error) {
  const known = error instanceof Error;
  return JSON.stringify({
    errorType: known ? error.name : 'Error',
    errorMessage: known ? error.message : String(error),
    trace: known ? String(error.stack).split('\n') : [],
  });
}

const ERROR_HEADERS = { 'lambda-runtime-function-error-type': 'Unhandled', 'content-type': 'application/json' };
let route = '/init/error';

// Report what nobody caught, as Lambda's own client does, and end: the state of the process is unknown.
async function die(error) {
  console.error(error);
  // On a connection of its own: the agent's only one may be waiting for the next invocation.
  await call('POST', route, describe(error), ERROR_HEADERS, false).catch(() => {});
  process.exit(128);
}
process.on('uncaughtException', die);
process.on('unhandledRejection', die);

async function loadHandler() {
  const dot = handlerName.lastIndexOf('.');
  const [file, name] = [handlerName.slice(0, dot), handlerName.slice(dot + 1)];
  const found = ['.mjs', '.js', '.cjs'].map((suffix) => path.join(taskRoot, file + suffix)).find(existsSync);
  if (!found) throw new Error(`there is no ${file}.mjs, .js or .cjs in ${taskRoot}`);
  const module = await import(pathToFileURL(found));
  const handler = module[name] ?? module.default?.[name];
  if (typeof handler !== 'function') throw new Error(`${path.basename(found)} exports no function ${name}`);
  return handler;
}

function contextOf(headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  return {
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

const handler = await loadHandler();
for (;;) {
  const next = await call('GET', '/invocation/next').catch(() => process.exit(0)); // the host is gone
  const context = contextOf(next.headers);
  route = `/invocation/${context.awsRequestId}/error`;
  try {
    const result = await handler(JSON.parse(next.body), context);
    await call('POST', `/invocation/${context.awsRequestId}/response`, JSON.stringify(result) ?? 'null');
  } catch (error) {
    console.error(error);
    await call('POST', route, describe(error), ERROR_HEADERS);
  }
}

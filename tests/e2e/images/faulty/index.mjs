// Fails in every way that Lambda knows, by the name of the input; anything else succeeds and writes nothing.
const ways = {
  throw: () => {
    throw new Error('thrown on purpose');
  },
  exit: () => process.exit(3),
  timeout: () => new Promise(() => setInterval(() => {}, 1000)),
  memory: async () => {
    const held = [];
    for (;;) {
      held.push(Buffer.alloc(16 * 1024 * 1024, 1));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  },
};

export async function handler(event) {
  const { key } = JSON.parse(event.Records[0].body).detail.object;
  const name = key.split('/').pop();
  console.log(`about to: ${name}`);
  await ways[name]?.();
  return { batchItemFailures: [] };
}

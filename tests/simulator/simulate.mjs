// Reads a simulation in JSON from each line, and writes its verdict: true, false, or the errors.
import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const nothing = { identityPolicies: [], serviceControlPolicies: [], resourceControlPolicies: [] }

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await runSimulation({ ...nothing, ...JSON.parse(line) }, {})
  const verdict = answer.errors ? answer.errors : answer.overallResult === 'Allowed'
  process.stdout.write(`${JSON.stringify(verdict)}\n`)
}

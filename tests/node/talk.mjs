// The line protocol with tests/node_support.py: `given` comes first; ask() is answered; tell() is collected.
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const read = async () => JSON.parse((await lines.next()).value)
const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')

export const given = await read()
export const ask = async (question) => (say(question), await read())
export const tell = (told, more = {}) => say({ told, ...more })

/** Fails unless `attempt` is refused with one of `codes` (an OAuth error code, or the code of the library's own error). */
export async function refused(attempt, ...codes) {
  try {
    await attempt()
  } catch (error) {
    const code = error.error ?? error.cause?.error ?? error.code
    assert.ok(codes.includes(code), `refused with ${code}, not ${codes}: ${error}`)
    return
  }
  assert.fail(`not refused with ${codes}`)
}
export const done = () => process.exit(0)

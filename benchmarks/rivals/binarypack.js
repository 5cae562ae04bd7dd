// npm peerjs-js-binarypack, timed; driven by lines of JSON.
//
//   node binarypack.js
//
// {"value": any, "seconds"} packs the value for so long, then unpacks it for so long, and is answered with {"bytes":
// of it, packed, "packs": calls a second, "unpacks": calls a second}. {"binary": N, "seconds"} does so with N zero
// bytes.
'use strict'

const { pack, unpack } = require('peerjs-js-binarypack')

const BATCH = 64
const WARM_UP = 500 // calls: Node.js compiles its JavaScript step by step

const rate = (call, seconds) => {
  for (let each = 0; each < WARM_UP; each++) call()
  const end = process.hrtime.bigint() + BigInt(Math.round(seconds * 1e9))
  const start = process.hrtime.bigint()
  let calls = 0
  let now = start
  while (now < end) {
    for (let each = 0; each < BATCH; each++) call()
    calls += BATCH
    now = process.hrtime.bigint()
  }
  return calls / (Number(now - start) / 1e9)
}

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { value, binary, seconds } = JSON.parse(line)
  const thing = binary === undefined ? value : new Uint8Array(binary)
  const packed = pack(thing)
  const packs = rate(() => pack(thing), seconds)
  const unpacks = rate(() => unpack(packed), seconds)
  process.stdout.write(JSON.stringify({ bytes: packed.byteLength, packs, unpacks }) + '\n')
})

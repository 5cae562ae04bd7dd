// PeerServer of npm `peer`, driven by tests.
//
//   node peerjs/server.mjs
//
// Commands on stdin, JSON lines: {"do": "listen", "options": {...}} answers {"port": n} and starts a server with these
// options; {"do": "errors"} answers {"errors": n}, how many events `error` there were since the last time. Ends at the
// end of stdin.

import readline from 'node:readline'
import { PeerServer } from 'peer'

let errors = 0

function listen (options) {
  const app = PeerServer({ host: '127.0.0.1', port: 0, ...options }, (server) => answer({ port: server.address().port }))
  app.on('error', () => { errors++ }) // without a listener, one bad frame ends the process
}

function answer (value) {
  process.stdout.write(JSON.stringify(value) + '\n')
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line)
  if (command.do === 'listen') {
    listen(command.options)
  } else {
    answer({ errors })
    errors = 0
  }
}).on('close', () => process.exit(0))

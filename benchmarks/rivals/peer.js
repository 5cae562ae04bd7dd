// The original's broker, npm peer, by its library.
//
//   node peer.js
//
// With room for many clients, who need not say that they live. Prints {"urls": [...]} when it listens; ends at the end
// of stdin.
'use strict'

const { PeerServer } = require('peer')

const options = { host: '127.0.0.1', port: 0, path: '/', concurrent_limit: 100000, alive_timeout: 3600000 }
PeerServer(options, (server) => {
  console.log(JSON.stringify({ urls: [`ws://127.0.0.1:${server.address().port}`] }))
})
process.stdin.on('end', () => process.exit(0)).resume()

// One original peer-relay node that listens.
//
//   node relay.js default|off
//
// "off" gives its server `perMessageDeflate: false`, an option that peer-relay itself does not have. Prints
// {"urls": [...]} when it listens; ends at the end of stdin.
'use strict'

const ws = require(require.resolve('ws', { paths: [require.resolve('peer-relay')] }))

if (process.argv[2] === 'off') {
  const Server = ws.Server
  ws.Server = function (options) { return new Server({ ...options, perMessageDeflate: false }) }
}

const PeerRelay = require('peer-relay')
const server = new PeerRelay({ port: 0 }).wsConnector._wss

server.on('listening', () => {
  console.log(JSON.stringify({ urls: [`ws://127.0.0.1:${server._server.address().port}`] }))
})
process.stdin.on('end', () => process.exit(0)).resume()

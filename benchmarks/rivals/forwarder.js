// A bare forwarder on ws 8 without compression: what comes from /N/a goes to /N/b as it is, and back.
//
//   node forwarder.js [CERTIFICATE KEY]
//
// Prints {"urls": [...]} when it listens; ends at the end of stdin.
'use strict'

const fs = require('fs')
const http = require('http')
const https = require('https')
const { WebSocketServer } = require('ws')

const [cert, key] = process.argv.slice(2)
const server = cert
  ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) })
  : http.createServer()
const ends = new Map()

new WebSocketServer({ server, perMessageDeflate: false }).on('connection', (ws, request) => {
  const path = request.url
  const other = path.slice(0, -1) + (path.endsWith('a') ? 'b' : 'a')
  let partner = null
  ends.set(path, ws)
  ws.on('message', (data, isBinary) => {
    if (partner === null) partner = ends.get(other)
    partner.send(data, { binary: isBinary })
  })
  ws.on('error', () => {})
  ws.on('close', () => { if (ends.get(path) === ws) ends.delete(path) })
})

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ urls: [`${cert ? 'wss' : 'ws'}://127.0.0.1:${server.address().port}`] }))
})
process.stdin.on('end', () => process.exit(0)).resume()

// One RTCPeerConnection with perfect negotiation (https://w3c.github.io/webrtc-pc/#perfect-negotiation-example).
// Signals wait in `outbox`; a test carries them. Streams and channels are named by the test.
"use strict";

let connection, control, polite, makingOffer = false, ignoring = false, hold = false;
const outbox = [], tracks = [], failures = [], channels = {}, shared = {}, counts = { offers: 0, rollbacks: 0 };

window.addEventListener("unhandledrejection", (event) => failures.push(String(event.reason)));

function begin(isPolite) {
  polite = isPolite;
  connection = new RTCPeerConnection();
  connection.onicecandidate = ({ candidate }) => outbox.push({ candidate: candidate && candidate.toJSON() });
  connection.onnegotiationneeded = () => hold || offer();
  connection.ontrack = ({ track, streams, transceiver }) => {
    const entry = { kind: track.kind, stream: streams[0] && streams[0].id, mid: transceiver.mid, ended: false, track };
    track.onended = () => (entry.ended = true);
    if (track.kind === "video") {
      entry.video = document.createElement("video");
      entry.video.muted = true;
      entry.video.srcObject = new MediaStream([track]);
      entry.video.play().catch(() => 0); // a track that ends at once
    }
    tracks.push(entry);
  };
  connection.ondatachannel = ({ channel }) => adopt(channel);
  control = adopt(connection.createDataChannel("", { negotiated: true, id: 0 }));
}

async function offer() {
  try {
    makingOffer = true;
    await connection.setLocalDescription();
    counts.offers += 1;
    outbox.push({ description: connection.localDescription.toJSON() });
  } finally {
    makingOffer = false;
  }
}

// What happens to be asked for twice is done one after the other.
let last = Promise.resolve();
function deliver(signal) {
  last = last.then(() => take(signal));
  return last;
}

async function take({ description, candidate }) {
  if (description === undefined) {
    return connection.addIceCandidate(candidate);
  }
  const collides = description.type === "offer" && (makingOffer || connection.signalingState !== "stable");
  ignoring = !polite && collides;
  if (ignoring) {
    return;
  }
  counts.rollbacks += collides;
  await connection.setRemoteDescription(description);
  if (description.type === "offer") {
    await connection.setLocalDescription();
    outbox.push({ description: connection.localDescription.toJSON() });
  }
}

function takeSignals() {
  return outbox.splice(0);
}

function adopt(channel) {
  channel.binaryType = "arraybuffer";
  const entry = { channel, messages: [], closed: false };
  channel.onmessage = ({ data }) => entry.messages.push(typeof data === "string" ? data : data.byteLength);
  channel.onclose = () => (entry.closed = true);
  channels[channel.label] = entry;
  return channel;
}

function openChannel(label, options) {
  adopt(connection.createDataChannel(label, options));
}

function describeChannel(label) {
  const { label: name, protocol, ordered, maxRetransmits, maxPacketLifeTime, id, readyState } = channels[label].channel;
  return { name, protocol, ordered, maxRetransmits, maxPacketLifeTime, id, readyState };
}

function picture(colour) {
  const canvas = document.createElement("canvas");
  canvas.width = 64;
  canvas.height = 48;
  const context = canvas.getContext("2d");
  let shade = 0;
  const paint = () => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 64, 48);
    context.fillStyle = `rgb(${shade++ % 2},0,0)`;
    context.fillRect(0, 0, 1, 1);
  };
  paint();
  setInterval(paint, 30);
  return canvas.captureStream(30).getVideoTracks()[0];
}

function sound() {
  const context = new AudioContext();
  const source = context.createOscillator();
  const destination = context.createMediaStreamDestination();
  source.connect(destination);
  source.start();
  return destination.stream.getAudioTracks()[0];
}

// As Peerix does: one sendonly transceiver for each track, all of one stream.
function share(name, colour, withSound) {
  const stream = new MediaStream(withSound ? [picture(colour), sound()] : [picture(colour)]);
  const transceivers = stream.getTracks().map(
    (track) => connection.addTransceiver(track, { direction: "sendonly", streams: [stream] }),
  );
  shared[name] = { stream, transceivers };
  return stream.id;
}

function unshare(name) {
  shared[name].transceivers.forEach((transceiver) => transceiver.stop());
  delete shared[name];
}

async function replace(name, colour) {
  await shared[name].transceivers[0].sender.replaceTrack(picture(colour));
}

function shownTracks() {
  return tracks.map(({ kind, stream, mid, ended }) => ({ kind, stream, mid, ended }));
}

// The colour in the middle of what comes; null before anything came.
function colourOf(number) {
  const { video } = tracks[number];
  if (!video.videoWidth) {
    return null;
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  context.drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
  return Array.from(context.getImageData(0, 0, 1, 1).data).slice(0, 3);
}

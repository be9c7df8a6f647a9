// Writes ../javascript.json: what the official JavaScript library signs, and
// what it believes. Go's tests hold package signature to it, also where there is
// no Node.
//
//   npm ci && node generate.mjs > ../javascript.json

import { createRequire } from "node:module";
import { Webhook } from "standardwebhooks";

// The clock stands where that of Go's testing/synctest begins.
const now = 946684800;
Date.now = () => now * 1000;

const secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
const edges = [24, 25, 26, 64].map((n) => "whsec_" + Buffer.from(Array.from({ length: n }, (_, i) => (i * 37 + n) % 256)).toString("base64"));
const bodies = ["", "{}", '{"test": 2432232314}', "{{ not JSON", "order,total\n17,12.50\r\n", "é 漢字 🦊\u0000\u2028", " ".repeat(3), "x".repeat(1000)];

const sign = (secret, id, timestamp, body) => new Webhook(secret).sign(id, new Date(timestamp * 1000), body);

const signed = [];
for (const secret of [...secrets, ...edges, secrets[0].slice("whsec_".length)]) {
  for (const body of bodies) {
    const id = `msg_${signed.length}`, timestamp = 1614265330 + signed.length;
    signed.push({ secret, id, timestamp, body, signature: sign(secret, id, timestamp, body) });
  }
}

const [secret, other] = secrets;
const id = "msg_1", body = '{"test": 2432232314}';
const good = (at = now) => sign(secret, id, at, body), wrong = sign(other, id, now, body);
const verified = [];
const ask = (name, changes = {}) => {
  const request = { id, timestamp: String(now), signature: good(), body, ...changes };
  let believed = true;
  try {
    new Webhook(secret).verify(request.body, {
      "webhook-id": request.id, "webhook-timestamp": request.timestamp, "webhook-signature": request.signature,
    }, { jsonParse: false });
  } catch {
    believed = false;
  }
  verified.push({ name, secret, ...request, believed });
};
ask("good");
ask("no id", { id: "" });
ask("no timestamp", { timestamp: "" });
ask("no signature", { signature: "" });
ask("another id", { id: "msg_2" });
ask("another body", { body: body + " " });
ask("another timestamp", { timestamp: String(now + 1) });
ask("a timestamp in words", { timestamp: "hello" });
ask("another secret's signature", { signature: wrong });
ask("the new one first", { signature: `${wrong} ${good()}` });
ask("the old one first", { signature: `${good()} ${wrong}` });
ask("among other versions", { signature: `v2,${good().slice(3)} v1a,${good().slice(3)} ${wrong} ${good()} v3,x` });
ask("in another version", { signature: `v1a,${good().slice(3)}` });
ask("two spaces between", { signature: `${wrong}  ${good()}` });
ask("a tab between", { signature: `${wrong}\t${good()}` });
ask("a comma between", { signature: `${wrong},${good()}` });
ask("a version alone", { signature: "v1," });
ask("a version in upper case", { signature: `V${good().slice(1)}` });
ask("truncated", { signature: good().slice(0, -8) });
ask("unpadded", { signature: good().slice(0, -1) });
ask("loose bits", { signature: good().slice(0, -2) + String.fromCharCode(good().charCodeAt(good().length - 2) + 1) + "=" });
for (const off of [-301, -300, -299, 299, 300, 301]) {
  ask(`${off} s from now`, { timestamp: String(now + off), signature: good(now + off) });
}

const library = createRequire(import.meta.url)("standardwebhooks/package.json");
console.log(JSON.stringify({ library: `${library.name} ${library.version}`, node: process.version, signed, verified }, null, 1));

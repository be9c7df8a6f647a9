// An endpoint that believes what the official JavaScript library believes: 204,
// else 401. The secret is its argument; it prints its URL.

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.argv[2]);

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    try {
      webhook.verify(Buffer.concat(chunks), request.headers, { jsonParse: false });
      response.writeHead(204).end();
    } catch (error) {
      response.writeHead(401).end(error.message);
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));

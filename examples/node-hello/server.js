const { createServer } = require("node:http");
createServer((request, response) => response.end(`hello ${request.headers["x-rempart-subject"]}\n`))
  .listen(process.env.REMPART_LISTEN.replace(/^unix:/, ""));

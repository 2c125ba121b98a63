const cp = require('child_process');

function ping(req, res) {
  cp.exec('ping -c 1 ' + req.query.host, (e, out) => res.send(out));
}
module.exports = { ping };

// What NGINX asks at each request or handshake, and where the renderer puts the routing keys.

import fs from "fs";

// The folder of the present certificate and its key, asked once a handshake: the link may move between the two.
function identity(r) {
  return fs.realpathSync(r.variables.identity_link);
}

// The upstream of the request's routing key: empty if there is no such key.
function upstream(r) {
  return ngx.shared.keys.get(r.variables.key) || "";
}

// Whether the client's certificate has exactly one URI, and that is of a caller, the operator or the renderer.
function admitted(r) {
  const pem = r.variables.ssl_client_raw_cert.replace(/-----[A-Z ]+-----|\s/g, "");
  const hex = Buffer.from(pem, "base64").toString("hex").toUpperCase();
  const known = new RegExp(r.variables.known).test(hex);
  return known && !new RegExp(r.variables.two).test(hex) ? "yes" : "";
}

// Replaces all routing keys by those of the body, an object of upstreams by key.
function replace(r) {
  const wanted = JSON.parse(r.requestText);
  const keys = ngx.shared.keys;
  for (const key in wanted) {
    keys.set(key, wanted[key]);
  }
  keys.keys(keys.size()).filter((key) => !(key in wanted)).forEach((key) => keys.delete(key));
  r.return(204);
}

export default { admitted, identity, replace, upstream };

// GRPC_XDS_BOOTSTRAP=xds.json node proxyless.mjs KEY USE_CASE: asks a model by grpc-js, which routes by xDS.
//
// grpc-js-xds takes no "tls" credentials for its xDS server, only "insecure" and Google's. So a Unix socket in a folder
// that only this user can open carries that stream in TLS. The connections to models are grpc-js' own.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import grpc from '@grpc/grpc-js';
import xds from '@grpc/grpc-js-xds';
import protoLoader from '@grpc/proto-loader';

async function inTls({ server_uri: uri, channel_creds: [{ config: files }], ...more }) {
  const [, host, port] = uri.match(/^(?:ipv4:)?([^,]+):(\d+)/);
  const folder = mkdtempSync(join(tmpdir(), 'xds-'));  // of mode 0700
  process.on('exit', () => rmSync(folder, { recursive: true }));
  const server = net.createServer((plain) => {
    const secured = tls.connect({
      host, port, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3',
      // Read for each connection, as certificates rotate.
      cert: readFileSync(files.certificate_file),
      key: readFileSync(files.private_key_file),
      ca: readFileSync(files.ca_certificate_file),
    });
    plain.pipe(secured).pipe(plain);
    for (const end of [plain, secured]) end.on('error', () => { plain.destroy(); secured.destroy(); });
  });
  const path = join(folder, 'xds.sock');
  await new Promise((listening) => server.listen(path, listening).unref());
  return { ...more, server_uri: `unix:${path}`, channel_creds: [{ type: 'insecure' }] };
}

const bootstrap = JSON.parse(readFileSync(process.env.GRPC_XDS_BOOTSTRAP));
bootstrap.xds_servers = await Promise.all(bootstrap.xds_servers.map(inTls));
delete process.env.GRPC_XDS_BOOTSTRAP;
process.env.GRPC_XDS_BOOTSTRAP_CONFIG = JSON.stringify(bootstrap);
xds.register();

const [key, useCase] = process.argv.slice(2);
const messages = protoLoader.loadSync('models/proto/ranking/v1/ranking.proto', { includeDirs: ['.'] });
const { Ranking } = grpc.loadPackageDefinition(messages).ranking.v1;
// Models get TLS as the control plane says. Without its settings the fallback knows no authority of the lab, and fails.
const ranking = new Ranking('xds:///models', new xds.XdsChannelCredentials(grpc.credentials.createSsl()));
const metadata = new grpc.Metadata();
metadata.set('x-routing-key', key);
const request = { envelope: { useCase, context: { userId: 'u1' } }, titles: [{ id: 't1' }, { id: 't2' }] };
ranking.rank(request, metadata, { deadline: Date.now() + 10_000 }, (error, answer) => {
  if (error) console.error(`${grpc.status[error.code]}: ${error.details}`);
  else console.log(`${answer.answeredBy.model}.${answer.answeredBy.version} ${answer.answeredBy.replica}`);
  process.exit(error ? 1 : 0);
});

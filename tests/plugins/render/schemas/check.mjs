// Reads a JSON list of manifests, prints a JSON list of what is wrong with each: an empty text if nothing is.
//
// The packages' validators follow the CRDs, but accept unknown fields. Their types do not: TypeScript refuses a literal
// with a field that its type lacks.
import ts from 'typescript';
import { readFileSync } from 'node:fs';

const PACKAGES = {
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api/gateway.networking.k8s.io',
  'networking.istio.io': '@kubernetes-models/istio/networking.istio.io',
  'security.istio.io': '@kubernetes-models/istio/security.istio.io',
};

const documents = JSON.parse(readFileSync(0, 'utf8'));
const errors = documents.map(() => '');
const sources = new Map();
for (const [number, document] of documents.entries()) {
  const [group, version] = String(document.apiVersion).split('/');
  const module = `${PACKAGES[group]}/${version}`;
  let kind;
  try {
    kind = (await import(module))[document.kind];
    new kind(document).validate();
  } catch (error) {
    errors[number] = kind ? String(error.message) : `no kind ${document.kind} in ${document.apiVersion}`;
    continue;
  }
  const literal = JSON.stringify(document, null, 1);
  sources.set(`${process.cwd()}/document${number}.ts`, [number,
    `import { I${document.kind} } from '${module}';\nexport const it: I${document.kind} = ${literal};\n`]);
}

const options = { strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, types: [] };
const host = ts.createCompilerHost(options);
const { fileExists, readFile, getSourceFile } = host;
host.fileExists = (name) => sources.has(name) || fileExists(name);
host.readFile = (name) => sources.get(name)?.[1] ?? readFile(name);
host.getSourceFile = (name, version, ...rest) => sources.has(name)
  ? ts.createSourceFile(name, sources.get(name)[1], version) : getSourceFile(name, version, ...rest);
const program = ts.createProgram([...sources.keys()], options, host);
for (const [name, [number]] of sources) {
  const file = program.getSourceFile(name);
  const found = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
  errors[number] = found.map((each) => ts.flattenDiagnosticMessageText(each.messageText, ' ')).join('; ');
}
console.log(JSON.stringify(errors));

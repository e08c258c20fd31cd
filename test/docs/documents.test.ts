import { documentsIn, typeDocuments } from './typed.js';

await typeDocuments(await documentsIn('docs'));

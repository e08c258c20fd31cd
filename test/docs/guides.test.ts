import assert from 'node:assert/strict';
import { it } from 'node:test';
import { documentsIn, typeDocuments } from './typed.js';

const silent = await typeDocuments(['README.md', ...(await documentsIn('docs/guides'))]);

it('the README and every guide show a terminal', () => {
  assert.deepEqual(silent, []);
});

// Type-aware lint. The bans in protocol/ and node/net/ are house rules: see CONTRIBUTING.md.
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    ignores: [
      'protocol/wire/messages.ts',
      // AssemblyScript.
      'protocol/kernels/rows.ts',
      'node/model/packed/kernels/pack.ts',
      'node/engine/onnx/onnx.ts',
      'dist/',
      'node_modules/',
      '**/*.generated.ts',
      'models/',
      '.venv/',
    ],
  },
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      'no-console': 'error',
      'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // A class may implement an interface whose method is async without awaiting anything itself.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['protocol/**/*.ts', 'node/net/**/*.ts', 'node/store/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: 'NewExpression[callee.name="Error"]',
          message: 'Throw a typed error: a caller must be able to tell this condition from others.',
        },
        {
          selector: 'TSAsExpression > TSAsExpression > TSUnknownKeyword',
          message: 'No "as unknown as": validate the value instead.',
        },
      ],
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
    },
  },
  {
    // Elsewhere an index that is in bounds by construction may say so.
    files: [
      'node/engine/**/*.ts',
      'node/model/**/*.ts',
      'node/train/**/*.ts',
      'node/sim/**/*.ts',
      'test/**/*.ts',
    ],
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      'max-lines-per-function': 'off',
      // node:test's describe and it return promises that the runner awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['describe', 'it', 'test', 'suite'], package: 'node:test' },
          ],
        },
      ],
    },
  },
  {
    files: [
      'node/cli/**/*.ts',
      'test/sim/main.ts',
      'test/sim/nightly.ts',
      'test/chaos/main.ts',
      'test/soak/main.ts',
      'test/flood/main.ts',
      'test/fuzz/main.ts',
      'bench/**/*.ts',
      'examples/**/*.ts',
      'test/run.ts',
    ],
    rules: { 'no-console': 'off' },
  },
  { files: ['eslint.config.js'], extends: [tseslint.configs.disableTypeChecked] },
);

/** The executors that any machine has. */
import { ortExecutor } from '../../node/engine/ort.js';
import { openTfjsExecutor } from '../../node/engine/tfjs/open.js';
import { executorCompliance } from './executor.js';

executorCompliance('ONNX Runtime', () => ortExecutor({ threads: 1 }));
executorCompliance('two replicas of ONNX Runtime', () => {
  const executor = ortExecutor({ threads: 2 });
  return { ...executor, compile: (program) => executor.compile(program, { replicas: 2 }) };
});
executorCompliance('TensorFlow.js, wasm', () => openTfjsExecutor({ backend: 'wasm' }));
executorCompliance('TensorFlow.js, cpu', () => openTfjsExecutor({ backend: 'cpu' }));

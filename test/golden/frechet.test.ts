// The Fréchet distance against the official code: from stored means and covariances, singular ones too, and from features.

import * as assert from 'uvu/assert';
import { frechetDistance, featureStatistics, type FeatureStatistics } from '../../models/evaluate/index.ts';
import { openDevice } from '../../core/index.ts';
import { assertClose, cases, familiesOf, loadGolden, need, numbers } from './support.ts';
import { suite } from 'uvu';

interface Case {
  readonly kind: string;
  readonly n1: number;
  readonly n2: number;
  readonly fid_eigh: number;
  readonly fid_reference_sqrtm: number;
  readonly trace1: number;
  readonly trace2: number;
}

interface Sidecar {
  readonly cases: Record<string, Case>;
}

const hasDistance = (sidecar: Partial<Sidecar>): boolean =>
  typeof sidecar.cases === 'object' && Object.values(sidecar.cases).some((each) => each?.fid_eigh !== undefined);

for (const { path, sidecar } of familiesOf<Sidecar>('fid', 'a Fréchet distance', hasDistance)) {
  const test = suite(`golden ${path}`);
  const golden = loadGolden(path);
  for (const name of cases(golden).keys()) {
    const given = sidecar.cases[name];
    const stored = (i: 1 | 2): FeatureStatistics => ({
      count: given[`n${i}`],
      mean: Float64Array.from(numbers(need(golden, `${name}.out.mu${i}`))),
      covariance: Float64Array.from(numbers(need(golden, `${name}.out.sigma${i}`))),
    });
    const scale = given.trace1 + given.trace2;
    // The two ways in which the reference was computed differ by as much where the product is singular.
    const singular = Math.abs(given.fid_eigh - given.fid_reference_sqrtm) > 1e-9 * scale;
    const limit = (singular ? 1e-5 : 1e-8) * scale + 1e-12;

    test(`${name}, ${given.kind}: distance of stored statistics, either way round`, async () => {
      const [a, b] = [stored(1), stored(2)];
      for (const found of [await frechetDistance(a, b), await frechetDistance(b, a)])
        assert.ok(Math.abs(found - given.fid_eigh) <= limit, `${found}, expected ${given.fid_eigh} within ${limit}`);
    });

    test(`${name}, ${given.kind}: statistics and distance of features`, async () => {
      const device = await openDevice();
      try {
        const sets = ([1, 2] as const).map((i) => {
          const { data, shape } = need(golden, `${name}.in.features${i}`);
          return { count: shape[0], dim: shape[1], data: data as Float32Array };
        });
        const found: FeatureStatistics[] = [];
        for (const [i, set] of sets.entries()) {
          const statistics = await featureStatistics(device, set);
          assertClose(statistics.mean, need(golden, `${name}.out.mu${i + 1}`), 1e-6, `mean ${i + 1}`);
          assertClose(statistics.covariance, need(golden, `${name}.out.sigma${i + 1}`), 2e-6, `covariance ${i + 1}`);
          found.push(statistics);
        }
        // An error ε of a covariance is one of √ε where an eigenvalue is 0.
        const distance = await frechetDistance(found[0], found[1]);
        assert.ok(
          Math.abs(distance - given.fid_eigh) <= 1e-3 * scale + 1e-6,
          `${distance}, expected ${given.fid_eigh}`,
        );
      } finally {
        device.destroy();
      }
    });
  }
  test.run();
}

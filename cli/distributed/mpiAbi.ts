// What differs between implementations of MPI: where the library lies, how its handles are found, and a few constants.
// Everything else is in mpi.ts. A handle is a pointer in Open MPI (the address of an exported object) and in the
// standard ABI of MPI 5 (a small number), so that one set of signatures serves both.

/** A handle or an address. */
export type Pointer = bigint;

export type MpiType = 'byte' | 'f32' | 'f64';
export type MpiOp = 'sum' | 'max';

export interface MpiAbi {
  readonly name: string;
  /** Shared libraries, the newest first. */
  readonly libraries: readonly string[];
  /** The handles; `symbol` gives the address of an exported object. */
  handles(symbol: (name: string) => Pointer): MpiHandles;
}

export interface MpiHandles {
  readonly world: Pointer;
  readonly infoNull: Pointer;
  readonly errorsReturn: Pointer;
  readonly types: Readonly<Record<MpiType, Pointer>>;
  readonly ops: Readonly<Record<MpiOp, Pointer>>;
}

/** Open MPI 4 and 5. */
export const OPEN_MPI: MpiAbi = {
  name: 'Open MPI',
  libraries: process.platform === 'darwin' ? ['libmpi.40.dylib', 'libmpi.dylib'] : ['libmpi.so.40', 'libmpi.so'],
  handles: (symbol) => ({
    world: symbol('ompi_mpi_comm_world'),
    infoNull: symbol('ompi_mpi_info_null'),
    errorsReturn: symbol('ompi_mpi_errors_return'),
    types: { byte: symbol('ompi_mpi_byte'), f32: symbol('ompi_mpi_float'), f64: symbol('ompi_mpi_double') },
    ops: { sum: symbol('ompi_mpi_op_sum'), max: symbol('ompi_mpi_op_max') },
  }),
};

export const THREAD_MULTIPLE = 3;
/** `MPI_COMM_TYPE_SHARED` of Open MPI. */
export const COMM_TYPE_SHARED = 0;
/** `MPI_STATUS_IGNORE`. */
export const STATUS_IGNORE: Pointer = 0n;

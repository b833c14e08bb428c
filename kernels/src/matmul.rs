//! The product of two matrices of f32, on any CPU and on the calling thread alone.

use gemm::Parallelism;

use crate::Mismatch;

/// A matrix inside a slice: value (r, c) is at `start + r · row + c · column`.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub start: usize,
    pub rows: usize,
    pub columns: usize,
    pub row: usize,
    pub column: usize,
}

impl View {
    /// Rows one after the other, nothing between them.
    pub fn dense(rows: usize, columns: usize) -> Self {
        Self { start: 0, rows, columns, row: columns, column: 1 }
    }

    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    /// One more than the last index that it reaches. `None`: beyond what a machine can address.
    fn end(&self) -> Option<usize> {
        if self.rows == 0 || self.columns == 0 {
            return Some(0);
        }
        let row = (self.rows - 1).checked_mul(self.row)?;
        let column = (self.columns - 1).checked_mul(self.column)?;
        let end = self.start.checked_add(row)?.checked_add(column)?.checked_add(1)?;
        (end <= isize::MAX as usize).then_some(end)
    }

    fn fits(&self, what: &'static str, length: usize) -> Result<(), Mismatch> {
        match self.end() {
            Some(end) if end <= length => Ok(()),
            end => Err(Mismatch { what, found: length, expected: end.unwrap_or(usize::MAX) }),
        }
    }
}

/// `out = scale · a · b`.
///
/// A row of `out` depends on that row of `a` alone.
pub fn matmul(
    (a, at): (&[f32], View),
    (b, bt): (&[f32], View),
    (out, ot): (&mut [f32], View),
    scale: f32,
) -> Result<(), Mismatch> {
    at.fits("the left matrix", a.len())?;
    bt.fits("the right matrix", b.len())?;
    ot.fits("the product", out.len())?;
    crate::expect("the inner dimension", bt.rows, at.columns)?;
    crate::expect("the product's rows", ot.rows, at.rows)?;
    crate::expect("the product's columns", ot.columns, bt.columns)?;
    // A step of zero would make two values of the product one.
    if (ot.rows > 1 && ot.row == 0) || (ot.columns > 1 && ot.column == 0) {
        return Err(Mismatch { what: "the product's step", found: 0, expected: 1 });
    }
    if ot.rows == 0 || ot.columns == 0 {
        return Ok(());
    }
    // gemm sums a single row in another order than one of many.
    if ot.rows == 1 && ot.columns > 1 {
        let (twice, mut both) = (View { rows: 2, row: 0, ..at }, vec![0.0; 2 * ot.columns]);
        matmul((a, twice), (b, bt), (&mut both, View::dense(2, ot.columns)), scale)?;
        for (value, place) in both.iter().take(ot.columns).zip(0..) {
            if let Some(out) = out.get_mut(ot.start + place * ot.column) {
                *out = *value;
            }
        }
        return Ok(());
    }
    // SAFETY: `fits` has shown that every index the three views reach lies inside its slice (and
    // that the steps fit an isize); `out` is borrowed mutably, so it overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            ot.rows,
            ot.columns,
            at.columns,
            out.as_mut_ptr().wrapping_add(ot.start),
            ot.column as isize,
            ot.row as isize,
            false,
            a.as_ptr().wrapping_add(at.start),
            at.column as isize,
            at.row as isize,
            b.as_ptr().wrapping_add(bt.start),
            bt.column as isize,
            bt.row as isize,
            0.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::{View, matmul};

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_product_is_the_scalar_one(
            (m, n, k) in (1usize..20, 1usize..40, 0usize..50), seed: u32, transposed: bool,
        ) {
            let (a, b) = (numbers(m * k, seed), numbers(k * n, seed ^ 1));
            let mut out = vec![f32::NAN; m * n];
            let right = if transposed { View::dense(n, k).transposed() } else { View::dense(k, n) };
            matmul((&a, View::dense(m, k)), (&b, right), (&mut out, View::dense(m, n)), 0.5).unwrap();
            for r in 0..m {
                for c in 0..n {
                    let exact: f64 = (0..k)
                        .map(|i| f64::from(a[r * k + i]) * f64::from(b[if transposed { c * k + i } else { i * n + c }]))
                        .sum();
                    prop_assert!((f64::from(out[r * n + c]) - 0.5 * exact).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn views_that_leave_their_slice_are_refused() {
        let mut out = [0.0; 4];
        let dense = View::dense(2, 2);
        assert!(matmul((&[0.0; 3], dense), (&[0.0; 4], dense), (&mut out, dense), 1.0).is_err());
        assert!(matmul((&[0.0; 4], dense), (&[0.0; 3], dense), (&mut out, dense), 1.0).is_err());
        assert!(matmul((&[0.0; 4], dense), (&[0.0; 4], dense), (&mut out[..3], dense), 1.0).is_err());
        let far = View { row: usize::MAX, ..dense };
        assert!(matmul((&[0.0; 4], far), (&[0.0; 4], dense), (&mut out, dense), 1.0).is_err());
        let still = View { row: 0, ..dense };
        assert!(matmul((&[0.0; 4], dense), (&[0.0; 4], dense), (&mut out, still), 1.0).is_err());
    }
}

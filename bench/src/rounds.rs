//! Measuring cases by turns, so that what changes on the machine meanwhile meets all of them.

use std::collections::BTreeMap;

/// Something that is measured.
pub struct Case<'a> {
    id: String,
    measure: Box<dyn FnMut() -> anyhow::Result<f64> + 'a>,
}

impl<'a> Case<'a> {
    /// A case; `id` is `stage/packet/size`, `measure` gives the cost of one packet or call.
    pub fn new(id: impl Into<String>, measure: impl FnMut() -> anyhow::Result<f64> + 'a) -> Self {
        Self {
            id: id.into(),
            measure: Box::new(measure),
        }
    }
}

/// The figures of each case, one a round.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    /// Measures every case once a round. A first round that is not counted warms caches and tables up.
    ///
    /// # Errors
    /// Those of the cases.
    pub fn take(rounds: usize, cases: &mut [Case<'_>]) -> anyhow::Result<Self> {
        let mut samples = Self::default();
        for round in 0..=rounds {
            for case in &mut *cases {
                let figure = (case.measure)()?;
                if round > 0 {
                    samples.0.entry(case.id.clone()).or_default().push(figure);
                }
            }
        }
        Ok(samples)
    }

    /// Adds the figures of other cases.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The cases in the order of their names, with their figures.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0
            .iter()
            .map(|(id, figures)| (id.as_str(), figures.as_slice()))
    }

    /// The median of a case.
    ///
    /// # Errors
    /// When there is no such case.
    pub fn median(&self, id: &str) -> anyhow::Result<f64> {
        let figures = self
            .0
            .get(id)
            .ok_or_else(|| anyhow::anyhow!("nothing was measured under the name {id}"))?;
        Ok(quantile(figures, 0.5))
    }
}

/// A quantile of some figures; 0 where there is none.
pub fn quantile(figures: &[f64], fraction: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a small length"
    )]
    let at = (crate::cpu::count(sorted.len().saturating_sub(1) as u64) * fraction).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((quantile(&[5.0, 1.0, 3.0], 0.5) - 3.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn cases_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let case = |id: &'static str| {
            let order = &order;
            Case::new(id, move || {
                order.borrow_mut().push(id);
                Ok(crate::cpu::count(order.borrow().len() as u64))
            })
        };
        let samples = Samples::take(2, &mut [case("a"), case("b")]).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(
            samples.iter().collect::<Vec<_>>(),
            [("a", &[3.0, 5.0][..]), ("b", &[4.0, 6.0][..])]
        );
    }
}

//! Many small operations at once.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// Runs `work` on every item, `at_once` of them together, and gives the results in the items' order.
pub(super) async fn in_groups<'a, T, R, F>(
    items: &'a [T],
    at_once: usize,
    work: impl Fn(&'a T) -> F,
) -> Vec<R>
where
    F: Future<Output = R>,
{
    let mut results = Vec::with_capacity(items.len());
    for group in items.chunks(at_once) {
        let mut running: Vec<(Pin<Box<F>>, Option<R>)> =
            group.iter().map(|item| (Box::pin(work(item)), None)).collect();
        poll_fn(|cx| {
            let mut pending = false;
            for (future, result) in running.iter_mut().filter(|(_, result)| result.is_none()) {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => pending = true,
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        results.extend(running.into_iter().filter_map(|(_, result)| result));
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, task::Context, task::Waker};

    #[test]
    fn results_come_in_the_order_of_the_items() {
        // Items that are ready at once and items that take several polls; never more than allowed together.
        let (running, most) = (Cell::new(0), Cell::new(0));
        let items: Vec<u32> = (0..20).collect();
        let (running, most) = (&running, &most);
        let mut all = Box::pin(in_groups(&items, 8, move |item| async move {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            let mut left = item % 5;
            poll_fn(|_| {
                left = left.saturating_sub(1);
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            running.set(running.get() - 1);
            item * 2
        }));
        let mut cx = Context::from_waker(Waker::noop());
        let results = loop {
            if let Poll::Ready(results) = all.as_mut().poll(&mut cx) {
                break results;
            }
        };
        assert_eq!(results, (0..20).map(|item| item * 2).collect::<Vec<_>>());
        assert!((2..=8).contains(&most.get()));
    }
}

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::{FutureExt as _, future::join_all};
use pretty_assertions::assert_eq;
use tokio::sync::oneshot;

use super::*;
use crate::domain::record::Record;

type Answer = Result<Option<(Version, Value)>, StoreError>;

/// A store whose reads a test answers, in the order in which they come.
#[derive(Clone, Debug, Default)]
struct Asked(Arc<Mutex<VecDeque<oneshot::Sender<Answer>>>>);

impl Asked {
    /// The next read that is not answered yet.
    async fn next(&self) -> oneshot::Sender<Answer> {
        loop {
            if let Some(read) = self.0.lock().unwrap().pop_front() {
                return read;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn answer(&self, answer: Answer) {
        self.next().await.send(answer).unwrap();
    }

    fn waiting(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Store for Asked {
    async fn read(&self, _: &Owner) -> Answer {
        let (tell, told) = oneshot::channel();
        self.0.lock().unwrap().push_back(tell);
        told.await.unwrap()
    }

    async fn write(&self, _: &Owner, _: Version, _: Value) -> Result<Written, StoreError> {
        Err(StoreError::Unavailable("the answer was lost".to_owned()))
    }

    async fn delete(&self, _: &Owner) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self, _: Option<&Owner>, _: usize) -> Result<Vec<Owner>, StoreError> {
        Ok(Vec::new())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn owner() -> Owner {
    Owner::Installation("a".to_owned())
}

fn records() -> (Arc<Records<Asked>>, Asked) {
    let store = Asked::default();
    (Arc::new(Records::new(store.clone(), Clock::System)), store)
}

fn record(generation: i64) -> Answer {
    let record = Record {
        generation,
        ..Record::default()
    };
    Ok(Some((Version(generation), Value::Record(record))))
}

fn generation(seen: &Seen) -> i64 {
    seen.record.as_ref().unwrap().generation
}

fn kept(records: &Records<Asked>) -> Option<i64> {
    records.kept(&owner(), Limit::Any).as_ref().map(generation)
}

/// Asks, and returns once the request has joined a read.
async fn ask(records: &Arc<Records<Asked>>) -> tokio::task::JoinHandle<Result<Seen, StoreError>> {
    let records = Arc::clone(records);
    let (tell, told) = oneshot::channel();
    let asking = tokio::spawn(async move {
        let owner = owner();
        let mut answer = std::pin::pin!(records.latest(&owner));
        let at_once = (&mut answer).now_or_never();
        tell.send(()).unwrap();
        match at_once {
            Some(answer) => answer,
            None => answer.await,
        }
    });
    told.await.unwrap();
    asking
}

#[tokio::test]
async fn those_who_ask_during_a_read_make_one_more_together() {
    let (records, store) = records();
    let first = ask(&records).await;
    let read = store.next().await;
    let others: Vec<_> = join_all((0..50).map(|_| ask(&records))).await;
    read.send(record(1)).unwrap();
    assert_eq!(generation(&first.await.unwrap().unwrap()), 1);
    // Their own read begins after they asked, so it has what they may know of.
    store.answer(record(2)).await;
    for other in others {
        assert_eq!(generation(&other.await.unwrap().unwrap()), 2);
    }
    assert_eq!((store.waiting(), kept(&records)), (0, Some(2)));
}

#[tokio::test]
async fn what_was_read_before_a_change_is_not_kept() {
    let (records, store) = records();
    let reader = ask(&records).await;
    let read = store.next().await;
    // Its answer was lost: it may have been made.
    assert!(records.write(&owner(), Version(1), Value::erased(0)).await.is_err());
    // Nor does a later reader get it.
    let later = ask(&records).await;
    read.send(record(1)).unwrap();
    assert_eq!(generation(&reader.await.unwrap().unwrap()), 1);
    assert_eq!(kept(&records), None);
    store.answer(record(2)).await;
    assert_eq!(generation(&later.await.unwrap().unwrap()), 2);
    assert_eq!(kept(&records), Some(2));
    records.delete(&owner()).await.unwrap();
    assert_eq!(kept(&records), None);
}

#[tokio::test]
async fn a_store_that_does_not_answer_leaves_what_is_kept() {
    let (records, store) = records();
    for (answer, left) in [
        (record(1), Some(1)),
        (Err(StoreError::Unavailable("sealed".to_owned())), Some(1)),
        (Err(StoreError::Corrupt("not ours".to_owned())), None),
        (record(2), Some(2)),
    ] {
        let reader = ask(&records).await;
        store.answer(answer).await;
        drop(reader.await.unwrap());
        assert_eq!(kept(&records), left);
    }
}

#[tokio::test]
async fn a_read_ends_even_if_nobody_waits_for_it() {
    let (records, store) = records();
    let reader = ask(&records).await;
    reader.abort();
    store.answer(record(1)).await;
    while kept(&records).is_none() {
        tokio::task::yield_now().await;
    }
}

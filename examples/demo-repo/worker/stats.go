package main

import (
	"log"
	"sort"
	"time"
)

// StoreStats 是一个门店的累计数据。
type StoreStats struct {
	Done    int
	Failed  int
	Elapsed time.Duration
}

// Stats 汇总各门店的任务，各个工作协程共用一个实例。
type Stats struct {
	stores map[int64]*StoreStats
}

func NewStats() *Stats {
	return &Stats{stores: make(map[int64]*StoreStats)}
}

// Record 在任务结束时调用。
func (s *Stats) Record(storeID int64, elapsed time.Duration, err error) {
	entry, ok := s.stores[storeID]
	if !ok {
		entry = &StoreStats{}
		s.stores[storeID] = entry
	}
	if err != nil {
		entry.Failed++
	} else {
		entry.Done++
	}
	entry.Elapsed += elapsed
}

// Log 在退出前打印汇总。
func (s *Stats) Log() {
	ids := make([]int64, 0, len(s.stores))
	for id := range s.stores {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(a, b int) bool { return ids[a] < ids[b] })
	for _, id := range ids {
		entry := s.stores[id]
		log.Printf("门店 %d: 完成 %d, 失败 %d, 用时 %s", id, entry.Done, entry.Failed, entry.Elapsed)
	}
}

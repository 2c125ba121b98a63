// worker 向调度服务取导出任务，生成对账文件并上传归档。
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	scheduler := flag.String("scheduler", "http://127.0.0.1:8100", "调度服务地址")
	upload := flag.String("upload", "https://archive.cangku.example/upload", "归档地址")
	concurrency := flag.Int("concurrency", 8, "并行任务数")
	interval := flag.Duration("interval", 2*time.Second, "没有任务时的等待时间")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	client := &http.Client{Timeout: 30 * time.Second}
	source := &Source{BaseURL: *scheduler, Token: os.Getenv("CANGKU_WORKER_TOKEN"), Client: client}
	exporter := &Exporter{UploadURL: *upload, Client: client}
	stats := NewStats()

	jobs := make(chan Job)
	var group sync.WaitGroup
	for i := 0; i < *concurrency; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for job := range jobs {
				handle(ctx, exporter, stats, job)
			}
		}()
	}

	poll(ctx, source, jobs, *interval)
	close(jobs)
	group.Wait()
	stats.Log()
}

// poll 在 ctx 取消前不断取任务。一次取到的任务先按紧急程度排好再派发。
func poll(ctx context.Context, source *Source, jobs chan<- Job, interval time.Duration) {
	for ctx.Err() == nil {
		batch, err := source.Fetch(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			log.Printf("取任务失败: %v", err)
		}
		for _, job := range Arrange(batch) {
			select {
			case jobs <- job:
			case <-ctx.Done():
				return
			}
		}
		if len(batch) == 0 {
			select {
			case <-time.After(interval):
			case <-ctx.Done():
			}
		}
	}
}

func handle(ctx context.Context, exporter *Exporter, stats *Stats, job Job) {
	started := time.Now()
	err := exporter.Run(ctx, job)
	stats.Record(job.StoreID, time.Since(started), err)
	if err != nil {
		log.Printf("任务 %d 失败: %v", job.ID, err)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Exporter 把任务写成 CSV 并上传。
type Exporter struct {
	UploadURL string
	Client    *http.Client
}

// Run 生成文件并上传。失败的任务由调度服务在租约到期后重新派发，这里不重试。
func (e *Exporter) Run(ctx context.Context, job Job) error {
	var file bytes.Buffer
	if err := WriteCSV(&file, job.Rows); err != nil {
		return err
	}
	name := fmt.Sprintf("store-%d-job-%d.csv", job.StoreID, job.ID)
	if err := e.upload(ctx, name, file.Bytes()); err != nil {
		return fmt.Errorf("上传 %s: %w", name, err)
	}
	return nil
}

func (e *Exporter) upload(ctx context.Context, name string, data []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, e.UploadURL+"/"+name, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/csv; charset=utf-8")
	resp, err := e.Client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 500 {
		return fmt.Errorf("归档服务异常: %s", resp.Status)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		detail, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(detail)))
	}
	return nil
}

// WriteCSV 写表头和各行。带 BOM，门店用 Excel 打开才不会乱码。
func WriteCSV(target io.Writer, rows []Row) error {
	if _, err := io.WriteString(target, "\xef\xbb\xbf"); err != nil {
		return err
	}
	writer := csv.NewWriter(target)
	if err := writer.Write([]string{"订单号", "收货人", "金额", "时间"}); err != nil {
		return err
	}
	for _, row := range rows {
		record := []string{fmt.Sprint(row.OrderID), cell(row.Receiver), yuan(row.TotalCents), row.CreatedAt}
		if err := writer.Write(record); err != nil {
			return err
		}
	}
	writer.Flush()
	return writer.Error()
}

// cell 防止 Excel 把内容当公式执行。
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// yuan 把分转成元，保留两位小数。
func yuan(cents int64) string {
	sign := ""
	if cents < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Sprintf("%s%d.%02d", sign, cents/100, cents%100)
}
